"""Health, readiness and what they tell strangers."""

from tests.services.gateway.conftest import Gateway, StartGateway


async def test_it_is_ready_when_identity_and_redis_answer(gateway: Gateway) -> None:
    for path in ("/healthz", "/readyz"):
        async with gateway.client.get(path) as answer:
            assert answer.status == 200
    async with gateway.client.get("/readyz") as answer:
        assert await answer.json() == {"status": "ok", "checks": {"redis": "ok", "identity": "ok"}}


async def test_it_starts_without_its_neighbours_and_says_so_without_addresses(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(redis_url="redis://127.0.0.1:1", identity_url="http://127.0.0.1:1")
    async with gateway.client.get("/healthz") as answer:
        assert answer.status == 200
    async with gateway.client.get("/readyz") as answer:
        assert answer.status == 503
        text = await answer.text()
    assert "127.0.0.1" not in text
    assert text.count("does not respond") == 2


async def test_head_on_the_gateways_own_pages(gateway: Gateway) -> None:
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        async with gateway.client.get(path) as whole, gateway.client.head(path) as head:
            assert (head.status, await head.read()) == (whole.status, b"")
            assert head.headers["content-length"] == whole.headers["content-length"]
            assert set(head.headers) == set(whole.headers)


async def test_a_method_nobody_knows_is_told_which_there_are(gateway: Gateway) -> None:
    async with gateway.client.post("/healthz") as answer:
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    async with gateway.client.request("PROPFIND", "/v1/projects") as answer:
        assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")
