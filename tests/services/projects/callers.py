"""Who calls the service in a test, and what they commonly do."""

import uuid
from typing import Any

import httpx
from sqlalchemy import select

from shared.auth import ALL_SCOPES, PrincipalKind
from shared.events.envelope import Envelope
from shared.events.identity import TenantRole
from shared.events.projects import ProjectRole
from shared.outbox import OutboxEvent, entry_of
from shared.tenancy import Database
from tests.support.identity import IdentityDouble


class Caller:
    """A client with one credential."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        tokens: IdentityDouble,
        *,
        tenant_id: uuid.UUID | None,
        tenant_role: TenantRole | None,
        **options: Any,
    ) -> None:
        self.user_id = uuid.uuid4()
        self.tenant_id = tenant_id
        self._client = client
        self._tokens = tokens
        self._options = {
            "tenant_id": tenant_id,
            "user_id": self.user_id,
            "tenant_role": tenant_role,
            "scopes": ALL_SCOPES,
            "kind": PrincipalKind.SESSION,
            **options,
        }

    @property
    def headers(self) -> dict[str, str]:
        return self._tokens.headers("projects", **self._options)

    def limited(self, **options: Any) -> "Caller":
        """The same user with another credential."""
        other = Caller(self._client, self._tokens, tenant_id=self.tenant_id, tenant_role=None)
        other.user_id = self.user_id
        other._options = {**self._options, **options}
        return other

    async def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {**self.headers, **options.pop("headers", {})}
        return await self._client.request(method, path, headers=headers, **options)

    async def create_project(self, **fields: Any) -> uuid.UUID:
        answer = await self("POST", "/v1/projects", json={"name": "Papers", **fields})
        assert answer.status_code == 201, answer.text
        return uuid.UUID(answer.json()["id"])

    async def member(self, project_id: uuid.UUID, role: ProjectRole | None) -> "Caller":
        """A plain member of the tenant, with a role in the project or without."""
        other = Caller(self._client, self._tokens, tenant_id=self.tenant_id, tenant_role="member")
        if role is not None:
            answer = await self("PUT", f"/v1/projects/{project_id}/members/{other.user_id}", json={"role": role})
            assert answer.status_code == 200, answer.text
        return other

    async def upload(
        self, project_id: uuid.UUID, content: bytes | None = None, name: str = "note.txt", **params: str
    ) -> httpx.Response:
        """A raw upload of some text nobody else has."""
        return await self(
            "POST",
            f"/v1/projects/{project_id}/documents",
            params={"name": name, **params},
            content=uuid.uuid4().bytes if content is None else content,
            headers={"Content-Type": "text/plain"},
        )

    async def uploaded(self, project_id: uuid.UUID, content: bytes | None = None, **params: str) -> dict[str, Any]:
        answer = await self.upload(project_id, content, **params)
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document


def code(answer: httpx.Response) -> tuple[int, str]:
    """Status and problem code."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


async def events(database: Database, tenant_id: uuid.UUID) -> list[Envelope]:
    """What the tenant's outbox holds, in order."""
    async with database.tenant(tenant_id) as session:
        rows = await session.scalars(select(OutboxEvent).order_by(OutboxEvent.position))
        return [Envelope.from_json(entry_of(row)) for row in rows]


async def announced(database: Database, tenant_id: uuid.UUID) -> list[tuple[str, int]]:
    """Kinds and sequences of the tenant's events, in order."""
    return [
        (envelope.type.removeprefix("projects.").removesuffix(".v1"), envelope.sequence)
        for envelope in await events(database, tenant_id)
    ]
