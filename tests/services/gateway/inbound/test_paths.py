"""No spelling of a path reaches what is not routed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway import routes
from services.gateway.errors import AddressTooLong, HeadersTooLarge, MethodNotAllowed
from services.gateway.inbound.request_validation import read
from shared.errors import InvalidRequest
from tests.services.gateway.conftest import Gateway
from tests.services.gateway.doubles import Services

_ATTEMPTS = [
    "/internal/token",
    "/internal/jwks",
    "/%69nternal/token",
    "//internal/token",
    "/./internal/token",
    "/v1/../internal/token",
    "/v1/projects/../../internal/token",
    "/v1/projects/%2e%2e/%2e%2e/internal/token",
    "/v1/projects/%2E./%2e%2e/internal/token",
    "/v1/projects/..%2f..%2finternal/token",
    "/v1/projects/..%5c..%5cinternal",
    "/v1/projects/..\\..\\internal",
    "/v1/projects/%252e%252e/internal",
    "/v1/projects/%00",
    "/v1/projects/%0d%0aX: y",
    "/v1/projects/x//y",
    "/v1/projects/%ff",
    "/v1/projects/%zz",
    "/v1//internal",
    "/auth/../internal/token",
    "/auth/%2e%2e/internal/token",
    "/auth/",
    "/v1",
    "/",
    "/metrics",
    "/v1/projectsinternal",
    "/v1/unknown",
    "/V1/projects",
    "/docs/../internal/token",
    "http://127.0.0.1/internal/token",
    "http://internal/internal/token",
    "*",
]


@pytest.mark.parametrize("target", _ATTEMPTS)
async def test_what_is_not_routed_cannot_be_reached(gateway: Gateway, services: Services, target: str) -> None:
    headers, _ = services.identity.new_key()
    wire = await gateway.wire()
    request = (
        f"POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\nContent-Length: 0\r\n\r\n"
    )
    await wire.send(request.encode())
    answer = await wire.answer()
    wire.close()
    if target == "/v1/projects/%252e%252e/internal":
        # Decoded once it is a name like any other, and decoded once is what every service does.
        assert answer.status == 200
        assert services.projects.last.raw_path == target
        return
    assert answer.status in (400, 404)
    assert not any(service.seen for service in services.each())
    assert all(kind == "api_key" for kind, _ in services.identity.exchanges)


async def test_an_absolute_target_and_an_odd_host_change_nothing(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    for target, host in (
        ("http://evil.test/v1/projects?a=1", "evil.test"),
        ("/v1/projects?a=1", "evil.test:99999"),
        ("/v1/projects?a=1", "a b/c"),
    ):
        wire = await gateway.wire()
        await wire.send(
            f"GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {headers['Authorization']}\r\n\r\n".encode()
        )
        answer = await wire.answer()
        wire.close()
        assert answer.status == 200
        seen = services.projects.last
        assert (seen.raw_path, seen.query) == ("/v1/projects", "a=1")
        assert seen.header("x-forwarded-host") == "quarry.test"
        assert "evil" not in (seen.header("host") or "")


async def test_the_same_bytes_are_judged_and_sent(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    target = "/v1/projects/a%20b/documents;x=1/(c)@d:e?q=%2e%2e%2f&r=a+b"
    wire = await gateway.wire()
    await wire.send(f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n\r\n".encode())
    assert (await wire.answer()).status == 200
    wire.close()
    seen = services.projects.last
    assert f"{seen.raw_path}?{seen.query}" == target


async def test_an_unknown_path_is_a_404_problem(gateway: Gateway) -> None:
    async with gateway.client.get("/nowhere") as answer:
        assert answer.status == 404
        assert answer.content_type == "application/problem+json"
        problem = await answer.json()
    assert (problem["code"], problem["instance"]) == ("not_found", "/nowhere")


async def test_methods_outside_the_api_are_refused(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    for method in ("TRACE", "PROPFIND"):
        async with gateway.client.request(method, "/v1/projects", headers=headers) as answer:
            assert answer.status == 405
    assert not services.projects.seen


def _scope(raw_path: bytes, *, query: bytes = b"", method: str = "GET", headers: object = ()) -> dict[str, object]:
    return {"method": method, "raw_path": raw_path, "query_string": query, "headers": headers, "client": ("1.2.3.4", 1)}


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["/", ".", "%2e", "%2F", "\\", "v1", "projects", "internal", "auth", "%00", "%", "a", ";", "%C3%A9"]
        )
    )
)
def test_whatever_is_accepted_has_one_reading(parts: list[str]) -> None:
    raw = ("/" + "".join(parts)).encode()
    try:
        request = read(_scope(raw), ())
    except InvalidRequest:
        return
    assert request.raw_path.encode() == raw
    assert not any(segment in (".", "..") for segment in request.path.split("/"))
    assert "//" not in request.path
    assert "\\" not in request.path
    if request.path.startswith("/internal"):
        assert routes.match("GET", request.path) is None


def test_sizes_of_the_request_line_and_headers_are_bounded() -> None:
    with pytest.raises(AddressTooLong):
        read(_scope(b"/v1/projects", query=b"a" * 9000), ())
    with pytest.raises(HeadersTooLarge):
        read(_scope(b"/v1/projects", headers=[(b"accept", b"a" * 33_000)]), ())
    with pytest.raises(HeadersTooLarge):
        read(_scope(b"/v1/projects", headers=[(b"accept", b"a")] * 200), ())
    with pytest.raises(MethodNotAllowed):
        read(_scope(b"/v1/projects", method="TRACE"), ())


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([(b"content-length", b"5"), (b"transfer-encoding", b"chunked")], b""),
        ([(b"content-length", b"5"), (b"content-length", b"5")], b""),
        ([(b"content-length", b"+5")], b""),
        ([(b"content-length", b"5, 5")], b""),
        ([(b"content-length", b"")], b""),
        ([(b"transfer-encoding", b"gzip, chunked")], b""),
        ([(b"transfer-encoding", b"xchunked")], b""),
        ([(b"accept", b"a\r\nx: y")], b""),
        ([], b"a=\x80"),
        ([], b"a b"),
    ],
)
def test_ambiguous_requests_are_refused(headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(_scope(b"/v1/projects", query=query, method="POST", headers=headers), ())
