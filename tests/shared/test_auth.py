import base64
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey

from shared.auth import ALL_SCOPES, PrincipalKind, Scope, ServiceTokens, TokenVerifier
from shared.errors import Forbidden, NotFound, Unauthenticated, Unavailable
from shared.events.projects import ProjectRole
from shared.service_permissions import INSTALLATION_WIDE, SERVICE_ACCESS, operations_of
from tests.support.identity import IdentityDouble

TENANT = uuid.uuid4()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def verifier(tokens: IdentityDouble, client: aiohttp.ClientSession) -> TokenVerifier:
    return TokenVerifier("projects", tokens.url, client)


async def test_a_token_of_identity_names_its_principal(verifier: TokenVerifier, tokens: IdentityDouble) -> None:
    user, project = uuid.uuid4(), uuid.uuid4()
    token = tokens.bearer(
        "projects", tenant_id=TENANT, user_id=user, tenant_role="member", scopes={Scope.SEARCH}, project_id=project
    )
    principal = await verifier.verify(token)
    assert (principal.user_id, principal.tenant_id, principal.tenant_role) == (user, TENANT, "member")
    assert (principal.project_id, principal.kind) == (project, PrincipalKind.API_KEY)
    assert principal.limit == {Scope.SEARCH}


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "indexing"},
        {"aud": None},
        {"iss": "somebody"},
        {"exp": 1},
        {"exp": None},
        {"iat": None},
        {"kind": "root"},
        {"scope": "everything"},
        {"trole": "emperor"},
        {"tid": "not-a-uuid"},
    ],
)
async def test_a_wrong_claim_is_refused(verifier: TokenVerifier, tokens: IdentityDouble, wrong: dict[str, Any]) -> None:
    claims = orjson.loads(_segment(tokens.bearer("projects", tenant_id=TENANT), 1))
    claims = {name: value for name, value in {**claims, **wrong}.items() if value is not None}
    token = jwt.encode(
        {"alg": "Ed25519", "kid": tokens.key.kid, "typ": "quarry-internal+jwt"}, claims, tokens.key, ["Ed25519"]
    )
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


async def test_a_token_of_another_type_is_refused(verifier: TokenVerifier, tokens: IdentityDouble) -> None:
    claims = orjson.loads(_segment(tokens.bearer("projects", tenant_id=TENANT), 1))
    with pytest.raises(Unauthenticated):
        await verifier.verify(tokens.sign(claims, {"typ": "JWT"}))


async def test_a_token_with_an_unknown_critical_header_is_refused(
    verifier: TokenVerifier, tokens: IdentityDouble
) -> None:
    token = _with_header(tokens.bearer("projects", tenant_id=TENANT), crit=["novelty"], novelty=1)
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


async def test_a_token_signed_by_somebody_else_is_refused(verifier: TokenVerifier, tokens: IdentityDouble) -> None:
    claims = orjson.loads(_segment(tokens.bearer("projects", tenant_id=TENANT), 1))
    stranger = OKPKey.generate_key("Ed25519", {"kid": str(tokens.key.kid)})
    header = {"alg": "Ed25519", "kid": str(tokens.key.kid), "typ": "quarry-internal+jwt"}
    with pytest.raises(Unauthenticated):
        await verifier.verify(jwt.encode(header, claims, stranger, ["Ed25519"]))
    with pytest.raises(Unauthenticated):
        embedded = {**header, "kid": "mine", "jwk": stranger.as_dict(private=False)}
        await verifier.verify(jwt.encode(embedded, claims, stranger, ["Ed25519"]))


async def test_an_unsigned_token_and_algorithm_confusion_are_refused(
    verifier: TokenVerifier, tokens: IdentityDouble
) -> None:
    token = tokens.bearer("projects", tenant_id=TENANT)
    unsigned = _with_header(token, alg="none").rsplit(".", 1)[0] + "."
    public = OctKey.import_key(orjson.dumps(tokens.key.as_dict(private=False)))
    confused = jwt.encode(
        {"alg": "HS256", "kid": tokens.key.kid, "typ": "quarry-internal+jwt"},
        orjson.loads(_segment(token, 1)),
        public,
        ["HS256"],
    )
    for attempt in (unsigned, confused):
        with pytest.raises(Unauthenticated):
            await verifier.verify(attempt)


@pytest.mark.parametrize("garbage", ["", "x", "a.b.c", "....", "e30.e30.e30", "x" * 1_000_000, "\u00e9.b.c"])
async def test_garbage_is_refused(verifier: TokenVerifier, garbage: str) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(garbage)


async def test_invented_key_ids_do_not_flood_identity(
    verifier: TokenVerifier, tokens: IdentityDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = 0
    fetch = verifier._client.request

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal fetched
        fetched += 1
        return fetch(*args, **kwargs)

    monkeypatch.setattr(verifier._client, "request", counting)
    token = tokens.bearer("projects", tenant_id=TENANT)
    for number in range(50):
        with pytest.raises(Unauthenticated):
            await verifier.verify(_with_header(token, kid=f"invented-{number}"))
    assert fetched == 1


async def test_a_token_that_was_accepted_once_is_refused_once_it_has_expired(
    verifier: TokenVerifier, tokens: IdentityDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tokens.bearer("projects", tenant_id=TENANT)
    assert await verifier.verify(token) == await verifier.verify(token)
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


async def test_remembered_tokens_are_bounded(
    verifier: TokenVerifier, tokens: IdentityDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenVerifier, "_MOST_REMEMBERED", 2)
    for _ in range(4):
        await verifier.verify(tokens.bearer("projects", tenant_id=TENANT))
    assert len(verifier._remembered) <= 2


async def test_without_identity_and_without_keys_the_answer_is_unavailable(
    tokens: IdentityDouble, client: aiohttp.ClientSession
) -> None:
    verifier = TokenVerifier("projects", "http://127.0.0.1:9", client)
    with pytest.raises(Unavailable):
        await verifier.verify(tokens.bearer("projects", tenant_id=TENANT))


async def test_a_service_token_speaks_for_one_tenant_and_is_reused(
    verifier: TokenVerifier, tokens: IdentityDouble, client: aiohttp.ClientSession
) -> None:
    service = ServiceTokens("indexing", "secret", tokens.url, client)
    token = await service.token("projects", TENANT)
    assert await service.token("projects", TENANT) == token
    assert await service.token("projects", uuid.uuid4()) != token
    principal = await verifier.verify(token)
    assert (principal.kind, principal.tenant_id, principal.user_id) == (PrincipalKind.SERVICE, TENANT, None)


@pytest.mark.parametrize(
    "claims", [{"trole": "admin"}, {"uid": str(TENANT)}, {"cid": str(TENANT)}, {"pid": str(TENANT)}]
)
async def test_a_service_that_says_it_has_a_role_is_refused(
    verifier: TokenVerifier, tokens: IdentityDouble, claims: dict[str, Any]
) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(tokens.bearer("projects", tenant_id=TENANT, kind=PrincipalKind.SERVICE, **claims))


async def test_scopes_and_operations_do_not_pass_for_one_another(
    verifier: TokenVerifier, tokens: IdentityDouble
) -> None:
    for kind, scope in ((PrincipalKind.SERVICE, "search"), (PrincipalKind.API_KEY, "projects.access.read")):
        with pytest.raises(Unauthenticated):
            await verifier.verify(tokens.bearer("projects", tenant_id=TENANT, kind=kind, scope=scope))


def test_what_is_about_the_installation_needs_a_token_of_no_tenant() -> None:
    for caller, table in SERVICE_ACCESS.items():
        for audience in table:
            assert operations_of(caller, audience, installation_wide=False).isdisjoint(INSTALLATION_WIDE)
            assert operations_of(caller, audience, installation_wide=True) <= INSTALLATION_WIDE


async def test_service_tokens_need_identity(client: aiohttp.ClientSession) -> None:
    with pytest.raises(Unavailable):
        await ServiceTokens("indexing", "secret", "http://127.0.0.1:9", client).token("projects", TENANT)


@pytest.mark.parametrize(
    ("tenant_role", "role", "limit", "scope", "outcome"),
    [
        ("owner", None, ALL_SCOPES, Scope.DOCUMENTS_WRITE, None),
        ("admin", None, {Scope.SEARCH}, Scope.DOCUMENTS_WRITE, Forbidden),
        ("member", "viewer", ALL_SCOPES, Scope.SEARCH, None),
        ("member", "viewer", ALL_SCOPES, Scope.DOCUMENTS_WRITE, Forbidden),
        ("member", "editor", ALL_SCOPES, Scope.DOCUMENTS_WRITE, None),
        ("member", "editor", ALL_SCOPES, Scope.MEMBERS_ADMIN, Forbidden),
        ("member", "owner", ALL_SCOPES, Scope.MEMBERS_ADMIN, None),
        ("member", None, ALL_SCOPES, Scope.SEARCH, NotFound),
        ("member", "viewer", {Scope.KEYS_ADMIN}, Scope.SEARCH, NotFound),
    ],
)
async def test_a_role_and_a_credential_together_decide(
    verifier: TokenVerifier,
    tokens: IdentityDouble,
    tenant_role: Any,
    role: ProjectRole | None,
    limit: set[Scope],
    scope: Scope,
    outcome: type[Exception] | None,
) -> None:
    token = tokens.bearer("projects", tenant_id=TENANT, tenant_role=tenant_role, scopes=limit)
    principal = await verifier.verify(token)
    if outcome is None:
        principal.require_in_project(scope, uuid.uuid4(), role)
    else:
        with pytest.raises(outcome):
            principal.require_in_project(scope, uuid.uuid4(), role)


async def test_a_credential_of_one_project_opens_no_other(verifier: TokenVerifier, tokens: IdentityDouble) -> None:
    project = uuid.uuid4()
    principal = await verifier.verify(tokens.bearer("projects", tenant_id=TENANT, project_id=project))
    principal.require_in_project(Scope.SEARCH, project, None)
    with pytest.raises(NotFound):
        principal.require_in_project(Scope.SEARCH, uuid.uuid4(), "owner")
    with pytest.raises(Forbidden):
        principal.require(Scope.KEYS_ADMIN)


async def test_tenant_wide_permission_is_for_its_admins(verifier: TokenVerifier, tokens: IdentityDouble) -> None:
    admin = await verifier.verify(tokens.bearer("projects", tenant_id=TENANT, tenant_role="admin"))
    admin.require(Scope.KEYS_ADMIN)
    member = await verifier.verify(tokens.bearer("projects", tenant_id=TENANT, tenant_role="member"))
    with pytest.raises(Forbidden):
        member.require(Scope.KEYS_ADMIN)


def _segment(token: str, index: int) -> bytes:
    part = token.split(".")[index]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _with_header(token: str, **changes: Any) -> str:
    header = {**orjson.loads(_segment(token, 0)), **changes}
    _, payload, signature = token.split(".")
    return f"{base64.urlsafe_b64encode(orjson.dumps(header)).decode().rstrip('=')}.{payload}.{signature}"
