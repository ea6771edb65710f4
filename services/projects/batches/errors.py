"""Errors of batches."""

from shared.errors import Conflict


class BatchClosed(Conflict):
    code = "batch_closed"
    detail = "The batch is closed; documents can no longer be added to it."
