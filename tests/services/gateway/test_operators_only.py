"""What is for operators is on the services' own ports: the gateway neither serves nor forwards it."""

import pytest

from services.gateway import routes
from tests.services.gateway.conftest import Gateway
from tests.services.gateway.doubles import Services

PATHS = (
    "/metrics",
    "/metrics/",
    "/v1/metrics",
    "/internal/metrics",
    "/identity/metrics",
    "/projects/metrics",
    "/v1/projects/../../metrics",
    "/v1/projects/%2e%2e/%2e%2e/metrics",
    "/%6detrics",
    "//metrics",
    "/internal/dead-letters",
    "/internal/dead-letters/redrive",
    "/internal/operator-token",
    "/v1/projects/..%2f..%2finternal/dead-letters",
)


@pytest.mark.parametrize("path", PATHS)
async def test_no_clients_path_leads_to_metrics_or_dead_letters(
    gateway: Gateway, services: Services, path: str
) -> None:
    headers, _ = services.identity.new_key()
    wire = await gateway.wire()
    for method in ("GET", "POST"):
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n"
        await wire.send(f"{request}Content-Length: 0\r\n\r\n".encode())
        answer = await wire.answer()
        assert answer.status in (400, 404), method
        assert b"quarry_" not in answer.body
        assert not any(service.seen for service in services.each())
        if answer.status == 400:
            wire = await gateway.wire()


@pytest.mark.parametrize("method", sorted(routes.METHODS))
def test_no_route_matches_them(method: str) -> None:
    for path in ("/metrics", "/internal/dead-letters", "/internal/dead-letters/redrive", "/internal/operator-token"):
        assert routes.match(method, path) is None
