"""Cookies of sign-in and sessions.

All are `__Host-` cookies (RFC 6265bis): only this host can set them, over HTTPS or loopback, for every path. Scripts
cannot read the session and login secrets. The CSRF token is readable on purpose: our pages copy it into `X-CSRF-Token`,
which a page elsewhere can neither read nor send.
"""

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import Cookie, Header, Response

SESSION: Final = "__Host-quarry_session"
CSRF: Final = "__Host-quarry_csrf"
LOGIN: Final = "__Host-quarry_login"

SessionCookie = Annotated[str | None, Cookie(alias=SESSION, include_in_schema=False)]
LoginCookie = Annotated[str | None, Cookie(alias=LOGIN, include_in_schema=False)]
CsrfHeader = Annotated[str, Header(alias="X-CSRF-Token")]


def set_session(response: Response, *, secret: str, csrf_token: str, expires_at: datetime) -> None:
    seconds = max(0, int((expires_at - datetime.now(UTC)).total_seconds()))
    _set(response, SESSION, secret, seconds)
    _set(response, CSRF, csrf_token, seconds, readable=True)


def clear_session(response: Response) -> None:
    _set(response, SESSION, "", 0)
    _set(response, CSRF, "", 0, readable=True)


def set_login(response: Response, secret: str, seconds: int) -> None:
    _set(response, LOGIN, secret, seconds)


def clear_login(response: Response) -> None:
    _set(response, LOGIN, "", 0)


def _set(response: Response, name: str, value: str, seconds: int, *, readable: bool = False) -> None:
    response.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=not readable, samesite="lax")
