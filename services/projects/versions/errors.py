"""Errors of versions."""

from shared.errors import Conflict


class TooManyVersions(Conflict):
    code = "too_many_versions"
    detail = "The document has as many versions as it may have."


class NewestVersion(Conflict):
    code = "newest_version"
    detail = "This is the document's newest version; only an older one can be restored."
