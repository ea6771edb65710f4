"""Errors the gateway returns by itself; see `shared.errors` for the tree they belong to."""

from collections.abc import Iterable

from shared.errors import Forbidden, InvalidRequest, QuarryError


class CrossSite(Forbidden):
    code = "cross_site_refused"
    detail = "This request comes from a site that is not allowed to act for the signed-in user."


class CsrfTokenWrong(Forbidden):
    code = "csrf_failed"
    detail = "Send the value of the CSRF cookie in the X-CSRF-Token header."


class OriginRefused(Forbidden):
    code = "origin_refused"
    detail = "This origin is not allowed to call the API from a browser."


class MethodNotAllowed(InvalidRequest):
    status = 405
    code = "method_not_allowed"
    detail = "This method is not part of the API."

    def __init__(self, allow: Iterable[str]) -> None:
        super().__init__()
        self.headers["Allow"] = ", ".join(sorted(allow))


class BodyTimeout(QuarryError):
    status = 408
    code = "request_timeout"
    detail = "The request body arrived too slowly."


class AddressTooLong(InvalidRequest):
    status = 414
    code = "address_too_long"
    detail = "The URL is longer than allowed."


class HeadersTooLarge(InvalidRequest):
    status = 431
    code = "headers_too_large"
    detail = "The request headers are larger than allowed."


class BadUpstreamResponse(QuarryError):
    status = 502
    code = "bad_upstream_answer"
    detail = "A service of Quarry sent an invalid response."


class UpstreamTimeout(QuarryError):
    status = 504
    code = "upstream_timeout"
    detail = "A service of Quarry did not respond in time."


class ClientGone(Exception):
    """The client closed its connection: no response can reach it."""


class ResponseCutOff(Exception):
    """A response under way cannot be completed: its connection is closed, so that no client takes it for complete."""
