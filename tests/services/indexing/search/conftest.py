import uuid
from collections.abc import Awaitable, Callable

import httpx
import pytest

from shared.auth import ALL_SCOPES
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble

Search = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def search(client: httpx.AsyncClient, tokens: IdentityDouble) -> Search:
    """Search a library as the owner of its tenant, or as `caller` says."""

    async def ask(
        library: Library, query: str, *, caller: dict[str, object] | None = None, **options: object
    ) -> httpx.Response:
        defaults: dict[str, object] = {"tenant_id": library.tenant_id, "user_id": uuid.uuid4(), "scopes": ALL_SCOPES}
        return await client.post(
            f"/v1/projects/{library.project_id}/search",
            json={"query": query, **options},
            headers=tokens.headers("indexing", **{**defaults, **(caller or {})}),
        )

    return ask
