"""The door for agents: credentials of programs only, and no page of another site, whatever its browser says of it."""

import pytest

from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Services

OURS = "http://quarry.test"
LISTED = "https://inspector.example.test"


async def _post(gateway: Gateway, headers: dict[str, str]) -> tuple[int, str | None]:
    async with gateway.client.post("/mcp", json={"jsonrpc": "2.0"}, headers=headers) as answer:
        problem = await answer.json() if answer.status >= 400 else {}
        if answer.status == 401:
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        return answer.status, problem.get("code")


async def test_a_session_is_no_credential_of_an_agent(gateway: Gateway, services: Services) -> None:
    headers, account = services.identity.new_session()
    complete = {**headers, "X-CSRF-Token": str(account.csrf_token), "Origin": OURS, "Sec-Fetch-Site": "same-origin"}
    assert await _post(gateway, complete) == (401, "unauthenticated")
    assert await _post(gateway, {}) == (401, "unauthenticated")
    assert not services.indexing.seen
    assert not services.identity.exchanges


async def test_a_key_is_and_a_session_beside_it_does_not_matter(gateway: Gateway, services: Services) -> None:
    key, account = services.identity.new_key()
    session, _ = services.identity.new_session()
    assert await _post(gateway, {**session, **key}) == (200, None)
    seen = services.indexing.last
    assert (seen.method, seen.raw_path) == ("POST", "/mcp")
    assert seen.header("authorization") == f"Bearer internal-indexing-{account.credential_id}"
    assert seen.header("cookie") is None


@pytest.mark.parametrize(
    "site",
    [
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Origin": OURS + ":8080"},
        # A name of the attacker's that leads to our address: for the browser it is the page's own site.
        {"Origin": "http://evil.test", "Sec-Fetch-Site": "same-origin", "Host": "evil.test"},
        {"Origin": LISTED},
    ],
)
async def test_a_page_of_another_site_is_refused_with_any_credential(
    gateway: Gateway, services: Services, site: dict[str, str]
) -> None:
    key, _ = services.identity.new_key()
    assert await _post(gateway, {**key, **site}) == (403, "cross_site_refused")
    assert await _post(gateway, site) == (403, "cross_site_refused")
    assert not services.indexing.seen


async def test_a_page_of_a_listed_site_may_call(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(cors_origins=LISTED)
    key, _ = services.identity.new_key()
    for origin in (LISTED, OURS):
        assert await _post(gateway, {**key, "Origin": origin}) == (200, None)
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "mcp-protocol-version"}
    async with gateway.client.options("/mcp", headers={**asked, "Origin": LISTED}) as answer:
        assert answer.status == 204
        allowed = answer.headers["Access-Control-Allow-Headers"].lower()
        assert {"authorization", "mcp-protocol-version", "mcp-method", "mcp-name"} <= set(allowed.split(", "))


async def test_the_protocols_headers_pass_and_nothing_that_only_looks_like_them(
    gateway: Gateway, services: Services
) -> None:
    key, _ = services.identity.new_key()
    passed = {
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "search",
        "mcp-param-project": "p",
    }
    dropped = {"mcp-tenant": "forged", "mcp-param_x": "forged", "mcp_name": "forged", "x-mcp-name": "forged"}
    assert await _post(gateway, {**key, **passed, **dropped}) == (200, None)
    seen = {name: value for name, value in services.indexing.last.headers if "mcp" in name}
    assert seen == passed


@pytest.mark.parametrize("name", ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"])
async def test_two_values_of_a_routing_header_are_refused(gateway: Gateway, services: Services, name: str) -> None:
    key, _ = services.identity.new_key()
    headers = [*key.items(), (name, "one"), (name, "two")]
    async with gateway.client.post("/mcp", json={}, headers=headers) as answer:
        assert answer.status == 400
    assert not services.indexing.seen


async def test_no_idempotency_key_is_asked_for_and_limits_count(gateway: Gateway, services: Services) -> None:
    key, _ = services.identity.new_key()
    async with gateway.client.post("/mcp", json={}, headers=key) as answer:
        assert answer.status == 200
        assert "RateLimit" in answer.headers
