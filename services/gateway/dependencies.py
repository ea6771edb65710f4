"""Parts of the running gateway that its routes depend on."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from services.gateway.admission.gate import Gate
from services.gateway.admission.load_shedding import LoadShedder
from services.gateway.admission.revocable_requests import ActiveRequests
from services.gateway.admission.token_cache import TokenCache
from services.gateway.admission.token_exchange import TokenExchange
from services.gateway.inbound.connections import Connections
from services.gateway.inbound.proxy_warnings import UntrustedProxies
from services.gateway.openapi.document import ProductDocument
from services.gateway.settings import GatewaySettings
from services.gateway.upstreams.upstream import Upstream
from shared.health import Check
from shared.invalidations.holder import Holder
from shared.lifespan_state import resources_of
from shared.topology import Backend


@dataclass(frozen=True, slots=True)
class Resources:
    """Made in `services.gateway.resources`. `checks` are looked at by `/readyz`."""

    settings: GatewaySettings
    upstreams: dict[Backend, Upstream]
    cache: TokenCache
    exchanges: TokenExchange
    calls: ActiveRequests
    lease: Holder
    gate: Gate
    load_shedder: LoadShedder
    connections: Connections
    untrusted_proxies: UntrustedProxies
    document: ProductDocument
    checks: dict[str, Check]


async def _document(request: Request) -> ProductDocument:
    return resources_of(request, Resources).document


Document = Annotated[ProductDocument, Depends(_document)]
