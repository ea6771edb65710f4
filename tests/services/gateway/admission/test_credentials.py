"""A credential is exchanged for internal tokens once, and only while it counts."""

import asyncio
import base64

import pytest

from services.gateway.admission.credentials import Credential
from tests.services.gateway import doubles
from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Services
from tests.support.polling import eventually


async def _status(gateway: Gateway, headers: dict[str, str], path: str = "/v1/projects") -> int:
    async with gateway.client.get(path, headers=headers) as answer:
        return answer.status


async def test_each_kind_of_credential_is_exchanged_as_what_it_is(gateway: Gateway, services: Services) -> None:
    services.identity.know("api_key", "qk_secret")
    services.identity.know("bearer", "an.access.token")
    services.identity.know("session", "opaque")
    for headers in (
        {"Authorization": "Bearer qk_secret"},
        {"authorization": "bearer an.access.token"},
        {"Cookie": "a=b; __Host-quarry_session=opaque; c=d"},
    ):
        assert await _status(gateway, headers) == 200
    assert services.identity.exchanges == [
        ("api_key", "qk_secret"),
        ("bearer", "an.access.token"),
        ("session", "opaque"),
    ]
    expected = "Basic " + base64.b64encode(b"gateway:gateway secret").decode()
    assert set(services.identity.authorizations) == {expected}


async def test_an_authorization_header_goes_before_the_cookie(gateway: Gateway, services: Services) -> None:
    key, _ = services.identity.new_key()
    session, _ = services.identity.new_session()
    assert await _status(gateway, {**key, **session}) == 200
    assert [kind for kind, _ in services.identity.exchanges] == ["api_key"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  "},
        {"Authorization": "Bearer " + "x" * 9000},
        {"Authorization": "Bearer café"},
        {"Cookie": "__Host-quarry_session="},
        {"Cookie": "quarry_session=opaque"},
    ],
)
async def test_without_a_credential_nothing_is_asked_and_nothing_is_passed(
    gateway: Gateway, services: Services, headers: dict[str, str]
) -> None:
    async with gateway.client.get("/v1/projects", headers=headers) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.content_type == "application/problem+json"
        problem = await answer.json()
    assert (problem["code"], problem["request_id"]) == ("unauthenticated", answer.headers["X-Request-ID"])
    assert not services.identity.exchanges
    assert not services.projects.seen


@pytest.mark.parametrize("space", [b"\xa0", b"\x85", b"\x1f", b"\x0b", b"\x0c", b"\xc2\xa0"])
async def test_a_cookie_whose_name_only_looks_like_ours_is_not_ours(
    gateway: Gateway, services: Services, space: bytes
) -> None:
    """`str.strip` takes all of these for white space; a page on a sibling host can set such a cookie."""
    services.identity.know("session", "planted")
    for name in (space + b"__Host-quarry_session", b"__Host-quarry_session" + space):
        wire = await gateway.wire()
        await wire.send(b"GET /v1/projects HTTP/1.1\r\nHost: x\r\nCookie: a=b; " + name + b"=planted\r\n\r\n")
        assert (await wire.answer()).status in (400, 401)
    assert not services.identity.exchanges


@pytest.mark.parametrize("space", [b"\xa0", b"\x85"])
async def test_a_credential_is_what_was_sent_and_not_a_trimmed_form_of_it(
    gateway: Gateway, services: Services, space: bytes
) -> None:
    services.identity.know("api_key", "qk_known")
    wire = await gateway.wire()
    await wire.send(
        b"GET /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + space + b"qk_known" + space + b"\r\n\r\n"
    )
    assert (await wire.answer()).status == 401
    assert not services.identity.exchanges


async def test_two_session_cookies_are_refused(gateway: Gateway) -> None:
    cookie = "__Host-quarry_session=a; __Host-quarry_session=b"
    assert await _status(gateway, {"Cookie": cookie}) == 400


async def test_an_unknown_credential_is_401_and_asked_about_once_a_second(gateway: Gateway, services: Services) -> None:
    headers = {"Authorization": "Bearer qk_unknown"}
    assert [await _status(gateway, headers) for _ in range(3)] == [401, 401, 401]
    assert len(services.identity.exchanges) == 1
    services.identity.know("api_key", "qk_unknown")

    async def counts_again() -> bool:
        return await _status(gateway, headers) == 200

    await eventually(counts_again, within=5)


async def test_the_answer_is_remembered(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    assert [await _status(gateway, headers) for _ in range(5)] == [200] * 5
    assert len(services.identity.exchanges) == 1


async def test_the_answer_is_forgotten_before_the_token_expires(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key(expires_in=0.4)
    assert await _status(gateway, headers) == 200

    async def asked_again() -> bool:
        assert await _status(gateway, headers) == 200
        return len(services.identity.exchanges) > 1

    await eventually(asked_again, within=5)


async def test_requests_that_come_together_share_one_question(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    services.identity.available.clear()
    requests = [asyncio.create_task(_status(gateway, headers)) for _ in range(20)]

    async def asked() -> bool:
        return bool(services.identity.exchanges)

    await eventually(asked)
    requests[0].cancel()  # the one that asked leaves; the others still get their answer
    services.identity.available.set()
    assert await asyncio.gather(*requests[1:]) == [200] * 19
    assert len(services.identity.exchanges) == 1


async def test_identity_out_of_reach_is_503_and_others_who_wait_hear_it_too(
    start_gateway: StartGateway, services: Services
) -> None:
    gateway = await start_gateway(identity_url="http://127.0.0.1:1", retry_seconds=0.3)
    headers, _ = services.identity.new_key()
    assert await asyncio.gather(*(_status(gateway, headers) for _ in range(8))) == [503] * 8


async def test_identity_s_refusal_of_a_malformed_credential_is_a_401(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    services.identity.broken = 422
    assert await _status(gateway, headers) == 401


async def test_tokens_for_some_services_only_are_not_believed(
    gateway: Gateway, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers, _ = services.identity.new_key()
    monkeypatch.setattr(doubles, "AUDIENCES", ("identity", "projects"))
    assert await _status(gateway, headers) == 503


@pytest.mark.parametrize("status", [500, 403])
async def test_identity_out_of_order_is_503_never_a_pass(gateway: Gateway, services: Services, status: int) -> None:
    headers, _ = services.identity.new_key()
    services.identity.broken = status
    async with gateway.client.get("/v1/projects", headers=headers) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await answer.json())["code"] == "unavailable"
    assert not services.projects.seen


async def test_an_answer_without_all_tokens_is_not_believed(gateway: Gateway, services: Services) -> None:
    headers, account = services.identity.new_key()
    account.expires_in = -1
    assert await _status(gateway, headers) == 503


async def test_the_secret_of_a_credential_is_not_shown_by_its_representation() -> None:
    assert "qk_secret" not in repr(Credential("api_key", "qk_secret"))


async def test_sign_in_pages_need_no_credential(gateway: Gateway, services: Services) -> None:
    assert await _status(gateway, {}, "/auth/providers") == 200
    assert await _status(gateway, {}, "/auth/login/dev?return_to=/") == 200
    assert not services.identity.exchanges
