"""What the gateway reads from its environment."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, field_validator
from pydantic_settings import NoDecode

from shared.settings import ServiceSettings


def _origin(value: str) -> str:
    """`scheme://host[:port]`, in the form browsers send it."""
    parts = urlsplit(value.strip().rstrip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.username:
        raise ValueError("must be http(s)://host[:port] and nothing else")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _listed(value: object) -> object:
    return [part for part in value.replace(",", " ").split() if part] if isinstance(value, str) else value


Origin = Annotated[str, AfterValidator(_origin)]


class GatewaySettings(ServiceSettings):
    """`cors_origins` and `trusted_proxies` are lists, separated by commas or spaces."""

    service: ClassVar[str] = "gateway"

    port: int = Field(default=8080, ge=0, le=65535)
    # Metrics have a port of their own, which must not be public; none without a number. 0 is any that is free.
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    metrics_host: str = "127.0.0.1"
    public_url: Origin
    identity_url: Origin
    projects_url: Origin
    indexing_url: Origin
    notifier_url: Origin

    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_listed)] = ()
    # Whose X-Forwarded-For is trusted. Start uvicorn with --no-proxy-headers: it would trust loopback by itself.
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_listed)] = ()

    # Requests a minute: without a valid credential per address, sign-ins per address, and per tenant and user.
    anonymous_per_minute: int = Field(default=600, ge=1)
    # Invalid credentials, per address; as many as `anonymous_per_minute` unless set.
    guesses_per_minute: int | None = Field(default=None, ge=1)
    sign_in_per_minute: int = Field(default=60, ge=1)
    tenant_per_minute: int = Field(default=12_000, ge=1)
    user_per_minute: int = Field(default=12_000, ge=1)

    deadline_seconds: float = Field(default=30.0, gt=0)  # whole short requests, and the wait for a response to begin
    idle_seconds: float = Field(default=30.0, gt=0)  # transfers: the longest silence of either side
    stream_idle_seconds: float = Field(default=40.0, gt=0)  # event streams: well over two heartbeats of the notifier
    # Uploads: the least rate, of about the last `idle_seconds`, and the longest one may take however fast it is.
    slowest_bytes_per_second: int = Field(default=1024, ge=0)
    upload_seconds: float = Field(default=6 * 3600.0, gt=0)

    # A request without effect that gets no response within `attempt_seconds` is sent to another replica. Where none can
    # be reached, requests wait for one, `retry_seconds` from the first failure on, `most_waiting` at a time. A 503 of a
    # service, which may have lost its database, is passed on after `busy_seconds` of retries.
    attempt_seconds: float = Field(default=3.0, gt=0)
    retry_seconds: float = Field(default=10.0, ge=0)
    busy_seconds: float = Field(default=2.5, ge=0)
    most_waiting: int = Field(default=1000, ge=0)

    # How long a body that is not an upload may take to arrive, and by `slowest_bytes_per_second` longer.
    body_seconds: float = Field(default=10.0, gt=0)
    max_body_bytes: int = Field(default=2 * 1024**2, ge=1)
    max_upload_bytes: int = Field(default=5 * 1024**3, ge=1)

    # Connections of clients: in all, and those of one address on which no request is under way.
    client_connections: int = Field(default=20_000, ge=1)
    waiting_per_address: int = Field(default=2_000, ge=1)

    # What may be under way at one service, separately for short requests (to one replica), short ones without a
    # credential, transfers and event streams, and the share of a tenant, or an address, in each. A tenant that has its
    # share of short ones waits for one of its own to end, `waiting_per_tenant` at a time.
    connections: int = Field(default=256, ge=1)
    short_per_tenant: int = Field(default=16, ge=1)
    anonymous_connections: int = Field(default=64, ge=1)
    short_per_address: int = Field(default=8, ge=1)
    transfer_connections: int = Field(default=1024, ge=1)
    transfers_per_tenant: int = Field(default=128, ge=1)
    stream_connections: int = Field(default=20_000, ge=1)
    streams_per_tenant: int = Field(default=5_000, ge=1)
    waiting_per_tenant: int = Field(default=256, ge=0)
    in_flight: int = Field(default=2000, ge=1)

    # Bodies that are received before they are sent to a service: how many at a time, of one tenant, and the bytes kept
    # of all, a quarter of which one may fill. An eighth of both is for requests without a credential, see
    # `services.gateway.admission.load_shedding`.
    bodies: int = Field(default=1024, ge=1)
    bodies_per_tenant: int = Field(default=64, ge=1)
    body_memory_bytes: int = Field(default=64 * 1024**2, ge=1024)

    @field_validator("cors_origins")
    @classmethod
    def _no_wildcard(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if any("*" in origin for origin in origins):
            raise ValueError("wildcards are not supported; list each origin")
        return origins

    @property
    def secure(self) -> bool:
        return self.public_url.startswith("https://")
