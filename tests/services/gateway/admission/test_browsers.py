"""What protects a signed-in browser from other sites."""

import pytest

from services.gateway.settings import GatewaySettings
from shared.settings import SettingsError
from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Services
from tests.support.serving import make_settings

OURS = "http://quarry.test"
LISTED = "https://app.example.test"


async def _post(gateway: Gateway, headers: dict[str, str], method: str = "POST") -> tuple[int, str | None]:
    async with gateway.client.request(method, "/v1/projects", headers=headers) as answer:
        problem = await answer.json() if answer.status >= 400 else {}
        return answer.status, problem.get("code")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_session_changes_something_only_with_its_csrf_token(
    gateway: Gateway, services: Services, method: str
) -> None:
    headers, account = services.identity.new_session()
    _, other = services.identity.new_session()
    assert account.csrf_token and other.csrf_token
    for wrong in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": other.csrf_token}):
        assert await _post(gateway, {**headers, **wrong}, method) == (403, "csrf_failed")
    assert not services.projects.seen
    assert await _post(gateway, {**headers, "X-CSRF-Token": account.csrf_token}, method) == (200, None)


async def test_a_session_without_a_csrf_token_changes_nothing(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_session(csrf_token=None)
    assert await _post(gateway, {**headers, "X-CSRF-Token": ""}) == (403, "csrf_failed")


async def test_reading_needs_no_csrf_token_and_a_key_never_does(gateway: Gateway, services: Services) -> None:
    session, _ = services.identity.new_session()
    key, _ = services.identity.new_key()
    assert await _post(gateway, session, "GET") == (200, None)
    assert await _post(gateway, key) == (200, None)
    assert await _post(gateway, {**key, "Origin": "https://elsewhere.test"}) == (200, None)


@pytest.mark.parametrize(
    "site",
    [
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Origin": OURS + ".evil.test"},
        {"Origin": "https://quarry.test"},
        {"Origin": OURS + ":8080"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://sub.quarry.test", "Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_site_may_not_act_for_the_user(
    gateway: Gateway, services: Services, site: dict[str, str]
) -> None:
    headers, account = services.identity.new_session()
    complete = {**headers, **site, "X-CSRF-Token": str(account.csrf_token)}
    assert await _post(gateway, complete) == (403, "cross_site_refused")
    assert not services.projects.seen


@pytest.mark.parametrize(
    "site",
    [
        {"Origin": OURS, "Sec-Fetch-Site": "same-origin"},
        {"Origin": OURS.upper()},
        {"Origin": LISTED, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        # The page was loaded under another name of this same server: the browser vouches for it.
        {"Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-origin"},
    ],
)
async def test_our_own_site_and_listed_ones_may(
    start_gateway: StartGateway, services: Services, site: dict[str, str]
) -> None:
    gateway = await start_gateway(cors_origins=LISTED)
    headers, account = services.identity.new_session()
    assert await _post(gateway, {**headers, **site, "X-CSRF-Token": str(account.csrf_token)}) == (200, None)


async def test_another_site_cannot_sign_the_user_out(gateway: Gateway, services: Services) -> None:
    session, _ = services.identity.new_session()
    for origin, expected in (("https://evil.test", 403), (OURS, 200)):
        async with gateway.client.post("/auth/logout", headers={**session, "Origin": origin}) as answer:
            assert answer.status == expected
    assert services.identity.last.header("cookie") == session["Cookie"]


async def test_listed_origins_may_read_answers_and_others_may_not(
    start_gateway: StartGateway, services: Services
) -> None:
    gateway = await start_gateway(cors_origins=f"{LISTED}, https://b.test/")
    headers, _ = services.identity.new_key()
    for origin in (LISTED, "https://b.test"):
        async with gateway.client.get("/v1/projects", headers={**headers, "Origin": origin}) as answer:
            assert answer.headers.getall("Access-Control-Allow-Origin") == [origin]
            assert answer.headers["Access-Control-Allow-Credentials"] == "true"
            assert "RateLimit" in answer.headers["Access-Control-Expose-Headers"]
            assert "Origin" in answer.headers["Vary"]
    for origin in ("https://evil.test", "null", LISTED + ".evil.test", "https://APP.example.test"):
        async with gateway.client.get("/v1/projects", headers={**headers, "Origin": origin}) as answer:
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]
            assert "Origin" in answer.headers["Vary"]


async def test_a_preflight_is_answered_for_listed_origins_only(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(cors_origins=LISTED)
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-csrf-token"}
    async with gateway.client.options("/v1/projects", headers={**asked, "Origin": LISTED}) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == LISTED
        assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
        assert "X-CSRF-Token" in answer.headers["Access-Control-Allow-Headers"]
    for origin in ("https://evil.test", "null"):
        async with gateway.client.options("/v1/projects", headers={**asked, "Origin": origin}) as answer:
            assert answer.status == 403
            assert (await answer.json())["code"] == "origin_refused"
            assert "Access-Control-Allow-Origin" not in answer.headers
    assert not services.identity.exchanges


async def test_without_listed_origins_nothing_is_said_about_them(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    async with gateway.client.get("/v1/projects", headers={**headers, "Origin": OURS}) as answer:
        assert answer.status == 200
        assert "Vary" not in answer.headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "https://*.example.test"),
        ("PUBLIC_URL", "http://quarry.test/path"),
        ("PROJECTS_URL", "file:///etc"),
        ("PROJECTS_URL", ""),
        ("TRUSTED_PROXIES", "10.0.0.0/99"),
        ("SERVICE_SECRET", None),
    ],
)
def test_settings_that_would_be_unsafe_stop_the_start(name: str, value: str | None) -> None:
    environment = {
        "REDIS_URL": "redis://x",
        "SERVICE_SECRET": "s",
        "PUBLIC_URL": OURS,
        **{f"{service}_URL": "http://x" for service in ("IDENTITY", "PROJECTS", "INDEXING", "NOTIFIER")},
    }
    make_settings(GatewaySettings, {f"QUARRY_GATEWAY_{key}": text for key, text in environment.items()})
    environment = {key: text for key, text in {**environment, name: value}.items() if text is not None}
    with pytest.raises(SettingsError, match=name):
        make_settings(GatewaySettings, {f"QUARRY_GATEWAY_{key}": text for key, text in environment.items()})


def test_lists_are_separated_by_commas_or_spaces() -> None:
    environment = {
        "REDIS_URL": "redis://x",
        "SERVICE_SECRET": "s",
        "PUBLIC_URL": OURS,
        **{f"{service}_URL": "http://x" for service in ("IDENTITY", "PROJECTS", "INDEXING", "NOTIFIER")},
        "CORS_ORIGINS": "https://a.test,https://B.test:8443 http://c.test",
        "TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8",
    }
    settings = make_settings(GatewaySettings, {f"QUARRY_GATEWAY_{key}": text for key, text in environment.items()})
    assert settings.cors_origins == ("https://a.test", "https://b.test:8443", "http://c.test")
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "fd00::/8"]
