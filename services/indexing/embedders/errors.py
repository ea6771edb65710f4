"""Errors of embedders.

EmbedderUnavailable 503       a remote embedder does not respond, or refuses everybody: retried with backoff
|-- EmbedderRefused           it refuses these texts: may be the document's fault
`-- EmbedderNotInstalled      nothing in this process's settings has the name that a generation was made with
"""

from shared.errors import Unavailable


class EmbedderUnavailable(Unavailable):
    """`reason` is for logs and operators: it may quote the endpoint. Clients see only the public sentence."""

    code = "embedder_unavailable"
    detail = "Texts cannot be embedded right now; try again shortly, or search by keyword."

    def __init__(self, reason: str, *, retry_after: float = 1) -> None:
        super().__init__(retry_after=retry_after)
        self.reason = reason
        self.add_note(reason)


class EmbedderRefused(EmbedderUnavailable):
    """Others may still be embedded."""


class EmbedderNotInstalled(EmbedderUnavailable):
    """Until an operator adds it to the settings, or the project is indexed again with another."""
