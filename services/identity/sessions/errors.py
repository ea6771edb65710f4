"""Errors of browser sessions."""

from shared.errors import Forbidden


class CsrfFailed(Forbidden):
    code = "csrf_failed"
    detail = "Send the value of the CSRF cookie in an X-CSRF-Token header."
