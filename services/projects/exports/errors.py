"""Errors of exports."""

from shared.errors import Conflict


class ExportNotReady(Conflict):
    code = "export_not_ready"
    detail = "The export has no archive yet, or could not be made; its status says which."
