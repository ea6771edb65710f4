"""Guards of the gateway that no other test would miss if they were gone; see `tests/isolation/mutations`."""

import pytest
from starlette.types import Receive, Send

from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Seen, Services, reply


async def test_credentials_that_differ_in_their_last_letter_share_nothing(gateway: Gateway, services: Services) -> None:
    """Nor does one that is only the beginning of another; what is remembered is remembered of the whole."""
    known = "qk_" + "a" * 43
    account = services.identity.know("api_key", known)
    other = services.identity.know("api_key", known[:-1] + "b")
    for value, expected in ((known, account), (known[:-1] + "b", other)):
        async with gateway.client.get("/v1/projects", headers={"Authorization": f"Bearer {value}"}) as answer:
            assert answer.status == 200
        assert services.projects.last.header("authorization") == f"Bearer internal-projects-{expected.credential_id}"
    for unknown in (known[:-1], known + "a", known[:-1] + "c", known.upper()):
        async with gateway.client.get("/v1/projects", headers={"Authorization": f"Bearer {unknown}"}) as answer:
            assert answer.status == 401


async def test_one_kind_of_credential_is_not_remembered_as_another(gateway: Gateway, services: Services) -> None:
    services.identity.know("bearer", "the-same-value")
    async with gateway.client.get("/v1/projects", headers={"Authorization": "Bearer the-same-value"}) as answer:
        assert answer.status == 200
    async with gateway.client.get("/v1/projects", headers={"Cookie": "__Host-quarry_session=the-same-value"}) as answer:
        assert answer.status == 401


async def test_one_tenants_limit_is_not_anothers(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(tenant_per_minute=3)
    loud, _ = services.identity.new_key()
    quiet, _ = services.identity.new_key()
    for headers, expected in ((loud, [200, 200, 200, 429]), (quiet, [200, 200, 200, 429])):
        statuses = []
        for _ in range(4):
            async with gateway.client.get("/v1/projects", headers=headers) as answer:
                statuses.append(answer.status)
        assert statuses == expected


async def test_no_service_sets_a_cookie_where_nobody_signs_in(gateway: Gateway, services: Services) -> None:
    async def planting(_seen: Seen, _receive: Receive, send: Send) -> None:
        await reply(send, {}, headers=[(b"set-cookie", b"__Host-quarry_session=planted; Secure; Path=/")])

    services.projects.answers["/v1/projects"] = planting
    headers, _ = services.identity.new_key()
    async with gateway.client.get("/v1/projects", headers=headers) as answer:
        assert answer.status == 200
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "target",
    ["/v1%2fprojects", "/v1/projects%2Fabc", "/v1/projects/a%5Cb", "/v1/projects/a%00b", "/v1/projects/%2e%2e%2fme"],
)
async def test_an_encoded_separator_is_refused(gateway: Gateway, services: Services, target: str) -> None:
    """Decoded it is one path, undecoded another: a service behind could read the other one."""
    headers, _ = services.identity.new_key()
    wire = await gateway.wire()
    bearer = headers["Authorization"]
    await wire.send(f"GET {target} HTTP/1.1\r\nHost: quarry.test\r\nAuthorization: {bearer}\r\n\r\n".encode())
    answer = await wire.answer()
    wire.close()
    assert answer.status == 400
    assert not services.projects.seen
