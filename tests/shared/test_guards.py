"""Guards of the foundation that no other test would miss if they were gone; see `tests/isolation/mutations`."""

import base64
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any

import aiohttp
import orjson
import pytest
from fastapi import FastAPI, Header
from joserfc.jwk import OKPKey
from sqlalchemy import delete, exists, func, literal, select, text, union_all, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from shared import tenancy
from shared.auth import ALL_SCOPES, MAX_TOKEN_BYTES, Principal, PrincipalKind, Scope, ServiceTokens, TokenVerifier
from shared.delivery import Delivery, Dispatcher
from shared.errors import Forbidden, NotFound, Unauthenticated, Unavailable
from shared.events.envelope import Event
from shared.events.projects import ProjectCreated, ProjectDeleted, ProjectMemberChanged
from shared.invalidations.holder import Holder, Ownership
from shared.invalidations.projected_copies import Projection
from shared.project_access import KnownProject, ProjectAccess, ProjectDirectory, access_handlers
from shared.tenancy import Database
from tests.support.identity import IdentityDouble
from tests.support.leases import held
from tests.support.letters import envelope_of
from tests.support.serving import serve

CANARY = "canary-9d41"
USER = uuid.uuid4()


# --- the criterion of a tenant's session ----------------------------------------------------------------------------


async def test_the_criterion_reaches_every_shape_of_statement(database: Database, tenant_id: uuid.UUID) -> None:
    """Postgres is told the victim's tenant, the session is the attacker's: whatever is found, the criterion let by."""
    async with database.tenant(tenant_id) as session:
        project = KnownProject(project_id=uuid.uuid4(), active=True, sequence=1)
        session.add_all([project, ProjectAccess(project_id=project.project_id, user_id=USER, role="owner", sequence=1)])
    other, access = aliased(KnownProject), aliased(ProjectAccess)
    shapes: dict[str, Any] = {
        "alias": select(other),
        "column of an alias": select(other.project_id),
        "join": select(KnownProject).join(ProjectAccess, ProjectAccess.project_id == KnownProject.project_id),
        "join of aliases": select(access.role).join(other, other.project_id == access.project_id),
        "subquery": select(select(other.project_id).subquery()),
        "scalar subquery": select(literal(1)).where(select(func.count(other.project_id)).scalar_subquery() > 0),
        "exists": select(literal(1)).where(exists(other.project_id)),
        "common table expression": select(select(KnownProject.project_id).cte()),
        "union": union_all(select(KnownProject.project_id), select(other.project_id)),
        "in": select(ProjectAccess.role).where(ProjectAccess.project_id.in_(select(other.project_id))),
        "locked": select(other).with_for_update(),
        "always true": select(other).where((other.active) | (literal(1) == 1)),
    }
    for name, statement in shapes.items():
        async with database.tenant(uuid.uuid4()) as session:
            await _bind_database(session, tenant_id)
            found = await session.execute(
                statement.execution_options(tenant_guard="an attack, and Postgres looks away")
            )
            assert found.all() == [], name
    async with database.tenant(uuid.uuid4()) as session:
        await _bind_database(session, tenant_id)
        for changing in (
            update(KnownProject).values(active=False),
            delete(ProjectAccess),
            delete(KnownProject).where(KnownProject.project_id.in_(select(access.project_id))),
        ):
            await session.execute(changing.execution_options(synchronize_session=False))
    async with database.tenant(tenant_id) as session:
        assert [row.active for row in await session.scalars(select(KnownProject))] == [True]
        assert len(list(await session.scalars(select(ProjectAccess)))) == 1


async def _bind_database(session: AsyncSession, tenant_id: uuid.UUID) -> None:
    await session.execute(
        text("SELECT set_config(:name, :tenant, true)").execution_options(tenant_guard="removes a guard on purpose"),
        {"name": tenancy.TENANT_SETTING, "tenant": str(tenant_id)},
    )


# --- what errors tell -----------------------------------------------------------------------------------------------


async def test_an_error_of_sql_is_told_without_the_values(database: Database, tenant_id: uuid.UUID) -> None:
    """It ends up in a log line, or in a dead letter's reason."""
    with pytest.raises(DBAPIError) as failed:
        async with database.tenant(tenant_id) as session:
            statement = text("SELECT 1 / (length(CAST(:canary AS text)) - :length)")
            await session.execute(
                statement.execution_options(tenant_guard="fails on purpose"),
                {"canary": CANARY, "length": len(CANARY)},
            )
    assert CANARY not in f"{failed.value}{failed.value!r}"


async def test_what_a_poisoned_entry_holds_is_not_logged(
    database: Database, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    envelope = envelope_of(_created(uuid.uuid4()), uuid.uuid4()).model_copy(update={"type": CANARY})
    delivery = Delivery("events.projects", "notifier", f"{uuid.uuid4().int % 10**15}-0", envelope.to_json(), 1)
    outcome = await Dispatcher(database, list(access_handlers("notifier"))).deliver([delivery])
    assert outcome.done == [delivery]
    said = capsys.readouterr()
    assert CANARY not in said.out + said.err + caplog.text
    assert "dead_letter" in said.out + said.err + caplog.text


# --- tokens ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_an_absurd_token_is_refused_unread(
    tokens: IdentityDouble, http: aiohttp.ClientSession, tenant_id: uuid.UUID
) -> None:
    """It would count otherwise: signed by identity, for this service, unexpired."""
    verifier = TokenVerifier("projects", tokens.url, http)
    await verifier.verify(tokens.bearer("projects", tenant_id=tenant_id, padding="x" * 5_000))
    for size in (MAX_TOKEN_BYTES, 50_000, 1_000_000):
        with pytest.raises(Unauthenticated):
            await verifier.verify(tokens.bearer("projects", tenant_id=tenant_id, padding="x" * size))


def test_the_scopes_of_a_credential_hold_for_the_tenant_too(tenant_id: uuid.UUID) -> None:
    owner = Principal(PrincipalKind.API_KEY, str(USER), USER, tenant_id, "owner", frozenset({Scope.SEARCH}))
    with pytest.raises(Forbidden):
        owner.require(Scope.KEYS_ADMIN)
    replace(owner, limit=ALL_SCOPES).require(Scope.KEYS_ADMIN)


# --- the projection of access ---------------------------------------------------------------------------------------


def _created(project_id: uuid.UUID) -> ProjectCreated:
    return ProjectCreated(project_id=project_id, actor_id=USER, name="Papers", owner_id=USER)


async def _hear(database: Database, tenant_id: uuid.UUID, event: Event, sequence: int) -> None:
    envelope = envelope_of(event, tenant_id, sequence=sequence)
    delivery = Delivery("events.projects", "notifier", f"{uuid.uuid4().int % 10**15}-0", envelope.to_json(), 1)
    outcome = await Dispatcher(database, list(access_handlers("notifier"))).deliver([delivery])
    assert outcome.done == [delivery]


async def _require(
    database: Database,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    directory: ProjectDirectory,
    *,
    membership_number: int = 1,
) -> None:
    member = Principal(
        PrincipalKind.SESSION,
        *(str(USER), USER, tenant_id, "member", ALL_SCOPES),
        membership_number=membership_number,
    )
    await directory.ensure_known(database, member, tenant_id=tenant_id, project_id=project_id)
    async with database.tenant(tenant_id) as session:
        await directory.require(session, member, project_id=project_id, scope=Scope.SEARCH)


@pytest.fixture
def directory(tokens: IdentityDouble, http: aiohttp.ClientSession) -> ProjectDirectory:
    """Nobody answers for projects it has not heard of."""
    return ProjectDirectory("http://127.0.0.1:9", ServiceTokens("notifier", "secret", tokens.url, http), http, held())


async def test_a_deleted_project_is_closed_in_every_projection(
    database: Database, directory: ProjectDirectory, tenant_id: uuid.UUID
) -> None:
    project_id = uuid.uuid4()
    await _hear(database, tenant_id, _created(project_id), 1)
    await _require(database, tenant_id, project_id, directory)
    await _hear(database, tenant_id, ProjectDeleted(project_id=project_id, actor_id=USER), 2)
    with pytest.raises(NotFound):
        await _require(database, tenant_id, project_id, directory)


async def test_a_projection_without_its_owners_lease_is_not_used(
    database: Database, tokens: IdentityDouble, http: aiohttp.ClientSession, tenant_id: uuid.UUID
) -> None:
    project_id = uuid.uuid4()
    await _hear(database, tenant_id, _created(project_id), 1)
    service_tokens = ServiceTokens("notifier", "secret", tokens.url, http)
    ownership = Ownership("projects", "http://127.0.0.1:9", "notifier", durable=True)
    projection = Projection(Holder(ownership, service_tokens, http))
    directory = ProjectDirectory("http://127.0.0.1:9", service_tokens, http, projection)
    with pytest.raises(Unavailable):
        await _require(database, tenant_id, project_id, directory)
    # What was known before a wait for something else may be outdated by its end.
    with pytest.raises(Unavailable):
        directory.check(tenant_id)


async def test_late_news_gives_no_access_back(
    database: Database, directory: ProjectDirectory, tenant_id: uuid.UUID
) -> None:
    project_id = uuid.uuid4()
    await _hear(database, tenant_id, _created(project_id), 1)
    for role, sequence in ((None, 9), ("editor", 5)):
        changed = ProjectMemberChanged(project_id=project_id, actor_id=USER, user_id=USER, role=role)
        await _hear(database, tenant_id, changed, sequence)
    # Without a role here its owner is asked, who does not answer.
    with pytest.raises((NotFound, Unavailable)):
        await _require(database, tenant_id, project_id, directory)


async def test_a_role_of_an_earlier_membership_does_not_count(
    database: Database, directory: ProjectDirectory, tenant_id: uuid.UUID
) -> None:
    project_id = uuid.uuid4()
    await _hear(database, tenant_id, _created(project_id), 1)
    await _require(database, tenant_id, project_id, directory)
    with pytest.raises((NotFound, Unavailable)):
        await _require(database, tenant_id, project_id, directory, membership_number=2)
    granted = ProjectMemberChanged(project_id=project_id, user_id=USER, role="viewer", membership_number=2)
    await _hear(database, tenant_id, granted, 2)
    await _require(database, tenant_id, project_id, directory, membership_number=2)


async def test_late_news_opens_no_deleted_project(
    database: Database, directory: ProjectDirectory, tenant_id: uuid.UUID
) -> None:
    project_id = uuid.uuid4()
    await _hear(database, tenant_id, ProjectDeleted(project_id=project_id, actor_id=USER), 9)
    await _hear(database, tenant_id, _created(project_id), 1)
    with pytest.raises(NotFound):
        await _require(database, tenant_id, project_id, directory)


async def test_the_owner_of_a_project_is_asked_in_the_name_of_the_tenant(
    database: Database, tokens: IdentityDouble, http: aiohttp.ClientSession, tenant_id: uuid.UUID
) -> None:
    """The owner looks with its own eyes: a project of another tenant is one it does not find."""
    verifier = TokenVerifier("projects", tokens.url, http)
    asked_for: list[uuid.UUID | None] = []
    app = FastAPI()

    @app.get("/internal/projects/{project_id}/access")
    async def access(project_id: uuid.UUID, authorization: Annotated[str, Header()]) -> dict[str, Any]:
        principal = await verifier.verify(authorization.removeprefix("Bearer "))
        asked_for.append(principal.tenant_id)
        members = [{"user_id": str(USER), "role": "viewer"}]
        return {"project_id": str(project_id), "status": "active", "revision": 1, "members": members}

    async with serve(app) as url:
        directory = ProjectDirectory(url, ServiceTokens("notifier", "secret", tokens.url, http), http, held())
        await _require(database, tenant_id, uuid.uuid4(), directory)
    assert asked_for == [tenant_id]


async def test_a_token_that_brings_its_own_key_is_refused(
    tokens: IdentityDouble, http: aiohttp.ClientSession, tenant_id: uuid.UUID
) -> None:
    """By value or by address, under a known key id or another; the address is not even asked."""
    verifier = TokenVerifier("projects", tokens.url, http)
    stranger = OKPKey.generate_key("Ed25519", {"kid": "mine"})
    claims = _segment(tokens.bearer("projects", tenant_id=tenant_id), 1)
    asked: list[str] = []
    app = FastAPI()

    @app.get("/{path:path}")
    async def keys(path: str) -> dict[str, Any]:
        asked.append(path)
        return {"keys": [stranger.as_dict(private=False)]}

    async with serve(app) as url:
        for kid in ("mine", str(tokens.key.kid), f"{url}/kid", "../../dev/null", "' OR 1=1 --"):
            for extra in (
                {"jwk": stranger.as_dict(private=False)},
                {"jku": f"{url}/jwks"},
                {"x5u": f"{url}/x5u"},
                {"jku": f"{url}/jwks", "crit": ["jku"]},
            ):
                with pytest.raises(Unauthenticated):
                    await verifier.verify(_signed(stranger, {"kid": kid, **extra}, claims))
    assert asked == []


async def test_a_signed_token_with_an_unknown_critical_header_is_refused(
    tokens: IdentityDouble, http: aiohttp.ClientSession, tenant_id: uuid.UUID
) -> None:
    """Signed by identity's own key: what the header demands is not understood, so nothing is (RFC 7515, 4.1.11)."""
    verifier = TokenVerifier("projects", tokens.url, http)
    claims = _segment(tokens.bearer("projects", tenant_id=tenant_id), 1)
    header = {"kid": str(tokens.key.kid)}
    await verifier.verify(_signed(tokens.key, header, claims))
    demands: list[dict[str, Any]] = [
        {"crit": ["novelty"], "novelty": 1},
        {"crit": ["b64"], "b64": False},
        {"crit": ["b64"], "b64": True},
        {"crit": ["alg"]},
        {"crit": []},
    ]
    for critical in demands:
        with pytest.raises(Unauthenticated):
            await verifier.verify(_signed(tokens.key, {**header, **critical}, claims))


def _signed(key: OKPKey, header: dict[str, Any], claims: bytes) -> str:
    """By hand: libraries refuse to make some of these."""
    protected = {"alg": "Ed25519", "typ": "quarry-internal+jwt", **header}
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (orjson.dumps(protected), claims))
    signature = key.private_key.sign(signed)  # type: ignore[union-attr]  # an Ed25519 key has one
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def _segment(token: str, index: int) -> bytes:
    part = token.split(".")[index]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
