"""Errors of similar documents.

NotIndexed 409    the document has no version yet that search finds
(those of a search reach the client as well: see `services.indexing.search.errors`)
"""

from shared.errors import Conflict


class NotIndexed(Conflict):
    code = "not_indexed"
    detail = "The document is not indexed yet, so nothing can be compared with it."
