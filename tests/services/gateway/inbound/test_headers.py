"""Nothing a client says about itself reaches a service, and nothing internal leaves."""

import pytest
from starlette.types import Receive, Send

from services.gateway.inbound.headers import connection_names, outwards
from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Seen, Services, reply

_FORGED = [
    "X-Tenant-Id",
    "X_Tenant_Id",
    "x-internal-token",
    "X-Internal-User",
    "X-User-Id",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Real-IP",
    "Forwarded",
    "X-HTTP-Method-Override",
    "X-Original-URL",
    "X-Rewrite-URL",
    "Proxy-Authorization",
    "Tracestate",
    "Baggage",
    "X-Quarry-Deadline-Ms",
    "TE",
    "Upgrade",
    "Anything-Else",
]


@pytest.mark.parametrize("name", _FORGED)
async def test_a_header_clients_may_not_set_is_dropped(gateway: Gateway, services: Services, name: str) -> None:
    headers, _ = services.identity.new_key()
    async with gateway.client.get(
        "/v1/projects", headers=[*headers.items(), (name, "forged"), (name, "forged")]
    ) as answer:
        assert answer.status == 200
    assert all("forged" not in value for _, value in services.projects.last.headers)


async def test_the_client_s_credentials_stay_at_the_gateway(gateway: Gateway, services: Services) -> None:
    headers, account = services.identity.new_session()
    async with gateway.client.get("/v1/projects", headers=headers) as answer:
        assert answer.status == 200
    seen = services.projects.last
    assert seen.header("cookie") is None
    assert seen.header("authorization") == f"Bearer internal-projects-{account.credential_id}"


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=forged"},
        {"b3": f"{'a' * 32}-{'b' * 16}-1", "X-B3-TraceId": "a" * 32, "baggage": "tenant=forged"},
        {"X-Amzn-Trace-Id": f"Root=1-{'a' * 8}-{'a' * 24}", "uber-trace-id": f"{'a' * 32}:{'b' * 16}:0:1"},
        {"traceparent": "x" * 9000},
    ],
)
async def test_a_client_does_not_say_which_trace_it_is(
    gateway: Gateway, services: Services, headers: dict[str, str]
) -> None:
    key, _ = services.identity.new_key()
    async with gateway.client.get("/v1/projects", headers={**key, **headers}) as answer:
        assert answer.status == 200
        assert not {"traceparent", "tracestate"} & {name.lower() for name in answer.headers}
    seen = services.projects.last
    version, trace_id, span_id, _ = (seen.header("traceparent") or "").split("-")
    assert (version, len(trace_id), len(span_id)) == ("00", 32, 16)
    assert trace_id != "a" * 32
    assert not {"tracestate", "baggage", "b3"} & {name for name, _ in seen.headers}
    assert all("a" * 24 not in value and "forged" not in value for _, value in seen.headers)


async def test_only_cookies_with_a_name_of_visible_ascii_reach_the_sign_in(
    gateway: Gateway, services: Services
) -> None:
    wire = await gateway.wire()
    await wire.send(
        b"GET /auth/providers HTTP/1.1\r\nHost: x\r\n"
        b"Cookie: \xa0__Host-quarry_login=planted;\x85__Host-quarry_session=planted; \t__Host-quarry_login=own\t;x\r\n"
        b"Cookie: __Host-quarry_csrf=a b; c=\xe9; =planted\r\n\r\n"
    )
    assert (await wire.answer()).status == 200
    assert services.identity.last.header("cookie") == "__Host-quarry_login=own; __Host-quarry_csrf=a b"


async def test_headers_of_the_api_pass(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    passed = {
        "if-match": '"3"',
        "idempotency-key": "k1",
        "last-event-id": "7",
        "range": "bytes=0-1",
        "accept-language": "de",
        "upload-offset": "0",
        "user-agent": "my client",
        "content-type": "text/markdown",
    }
    async with gateway.client.post("/v1/projects", data=b"# Hi", headers={**headers, **passed}) as answer:
        assert answer.status == 200
    seen = services.projects.last
    assert {name: seen.header(name) for name in passed} == passed


async def test_what_connection_lists_is_for_this_hop_only(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    listed = {"Connection": "close, If-Match, x-internal-a, Content-Length", "If-Match": '"1"', "X-Internal-A": "1"}
    async with gateway.client.put("/v1/projects/1", data=b"abc", headers={**headers, **listed}) as answer:
        assert answer.status == 200
    seen = services.projects.last
    assert seen.header("if-match") is None
    assert seen.header("x-internal-a") is None
    assert (seen.header("content-length"), seen.body) == ("3", b"abc")


@pytest.mark.parametrize(
    "name", ["Authorization", "Content-Type", "X-CSRF-Token", "Origin", "Idempotency-Key", "Last-Event-ID"]
)
async def test_two_values_where_one_counts_are_refused(gateway: Gateway, services: Services, name: str) -> None:
    headers, _ = services.identity.new_key()
    headers.pop("Authorization") if name == "Authorization" else None
    async with gateway.client.get("/v1/projects", headers=[*headers.items(), (name, "one"), (name, "two")]) as answer:
        assert answer.status == 400
        assert (await answer.json())["code"] == "invalid_request"
    assert not services.projects.seen


async def test_what_a_service_says_about_its_connection_and_itself_stays_inside(
    gateway: Gateway, services: Services
) -> None:
    headers, _ = services.identity.new_key()

    async def chatty(_seen: Seen, _receive: Receive, send: Send) -> None:
        extra = [
            (b"server", b"inner/1.0"),
            (b"x-request-id", b"inner"),
            (b"connection", b"x-hop"),
            (b"x-hop", b"1"),
            (b"set-cookie", b"a=b"),
            (b"access-control-allow-origin", b"*"),
            (b"x-frame-options", b"ALLOWALL"),
            (b"location", services.projects.url.encode() + b"/v1/projects/9"),
            (b"link", b"</next>"),
        ]
        await reply(send, {}, headers=extra)

    services.projects.answers["/v1/projects"] = chatty
    async with gateway.client.get("/v1/projects", headers=headers) as answer:
        assert answer.headers["Location"] == "/v1/projects/9"
        assert answer.headers["Link"] == "</next>"
        assert answer.headers.getall("X-Frame-Options") == ["DENY"]
        assert len(answer.headers.getall("Date")) == 1
        assert answer.headers["X-Request-ID"] != "inner"
        for name in ("Server", "X-Hop", "Set-Cookie", "Access-Control-Allow-Origin"):
            assert name not in answer.headers


async def test_cookies_pass_both_ways_only_for_sign_in(gateway: Gateway, services: Services) -> None:
    async def signed_in(_seen: Seen, _receive: Receive, send: Send) -> None:
        await reply(send, {}, headers=[(b"set-cookie", b"__Host-quarry_session=new; Secure"), (b"set-cookie", b"b=2")])

    services.identity.answers["/auth/callback/dev"] = signed_in
    async with gateway.client.get("/auth/callback/dev?code=1&state=2", headers={"Cookie": "login=abc"}) as answer:
        assert answer.status == 200
        assert answer.headers.getall("Set-Cookie") == ["__Host-quarry_session=new; Secure", "b=2"]
    assert services.identity.last.header("cookie") == "login=abc"
    assert services.identity.last.header("authorization") is None


async def test_every_answer_carries_the_security_headers(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    for path in ("/v1/projects", "/nowhere", "/healthz", "/openapi.json", "/v1/../x"):
        async with gateway.client.get(path, headers=headers) as answer:
            assert answer.headers.getall("X-Content-Type-Options") == ["nosniff"]
            assert answer.headers.getall("X-Frame-Options") == ["DENY"]
            assert answer.headers.getall("Referrer-Policy") == ["no-referrer"]
            assert answer.headers.getall("Content-Security-Policy")[0].startswith("default-src 'none'")
            assert "total;dur=" in answer.headers["Server-Timing"]
            assert len(answer.headers.getall("X-Request-ID")) == 1
            assert len(answer.headers.getall("Cache-Control")) == 1
            assert "Strict-Transport-Security" not in answer.headers


async def test_transport_security_is_demanded_where_the_public_address_is_https(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(public_url="https://quarry.test")
    async with gateway.client.get("/healthz") as answer:
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=")


async def test_header_values_outside_ascii_pass_as_text(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    for sent in (b"caf\xc3\xa9", b"caf\xe9"):
        wire = await gateway.wire()
        await wire.send(
            b"GET /v1/projects HTTP/1.1\r\nHost: x\r\nUser-Agent: "
            + sent
            + f"\r\nAuthorization: {headers['Authorization']}\r\n\r\n".encode()
        )
        assert (await wire.answer()).status == 200
        assert (services.projects.last.header("user-agent") or "").encode("latin-1") == b"caf\xc3\xa9"


def test_connection_cannot_take_away_the_framing() -> None:
    assert connection_names([(b"connection", b"Content-Length, close , X-A,,")]) == {b"x-a"}
    assert connection_names([]) == frozenset()


def test_a_location_elsewhere_is_left_alone() -> None:
    raw = [(b"Location", b"https://issuer.test/authorize")]
    assert outwards(raw, cookies=False, upstream_url="http://identity:8000") == [
        (b"location", b"https://issuer.test/authorize")
    ]
