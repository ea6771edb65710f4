"""What flows of resumable uploads share."""

import uuid
from typing import Final

import httpx

from tests.support.system import System, create_project

SIZE: Final = 24 * 1024 * 1024 + 17


async def owner_and_project(system: System) -> tuple[httpx.AsyncClient, str]:
    _, owner = await system.tenant(f"resuming-{uuid.uuid4().hex[:8]}")
    return owner, await create_project(owner)


async def content_of(owner: httpx.AsyncClient, project: str, document: str) -> bytes:
    answer = await owner.get(f"/v1/projects/{project}/documents/{document}/content")
    assert answer.status_code == 200, answer.text
    return answer.content
