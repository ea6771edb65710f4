"""Which credential a request carries. Only its form is checked here: identity says whether it is valid."""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Literal

from services.gateway.inbound.request_validation import OWS, ClientRequest
from shared.errors import InvalidRequest, Unauthenticated

SESSION_COOKIE: Final = "__Host-quarry_session"
API_KEY_PREFIX: Final = "qk_"
MAX_CREDENTIAL_BYTES: Final = 4096  # the most identity accepts

_VISIBLE = re.compile(r"[\x20-\x7e]+\Z")

CredentialType = Literal["session", "api_key", "bearer"]


@dataclass(frozen=True, slots=True)
class Credential:
    """A client's credential. `fingerprint` stands for it in memory; the value is kept nowhere else."""

    type: CredentialType
    value: str

    @property
    def fingerprint(self) -> bytes:
        return hashlib.sha256(f"{self.type}\0{self.value}".encode("utf-8", "surrogateescape")).digest()

    def __repr__(self) -> str:
        return f"Credential({self.type})"


def find(request: ClientRequest, *, sessions: bool = True) -> Credential:
    """The credential of a request. An Authorization header is explicit and takes precedence over the session cookie.

    Args:
        sessions: whether a session cookie counts.

    Raises:
        Unauthenticated: none, or none of a kind known here.
        InvalidRequest: two session cookies, which a browser never sends.
    """
    authorization = request.header(b"authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(" ")
        value = value.strip(OWS)
        if scheme.lower() != "bearer":
            raise Unauthenticated
        return _checked("api_key" if value.startswith(API_KEY_PREFIX) else "bearer", value)
    cookies = session_cookies(request) if sessions else []
    if len(cookies) > 1:
        raise InvalidRequest("The session cookie is sent more than once.")
    if not cookies:
        raise Unauthenticated
    return _checked("session", cookies[0])


def session_cookies(request: ClientRequest) -> list[str]:
    """The values of all session cookies sent."""
    return [value for name, value in request.cookies() if name == SESSION_COOKIE]


def _checked(kind: CredentialType, value: str) -> Credential:
    if len(value) > MAX_CREDENTIAL_BYTES or not _VISIBLE.match(value):
        raise Unauthenticated
    return Credential(kind, value)
