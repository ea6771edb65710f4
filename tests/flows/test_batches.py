"""Many documents as one: counted, told once when they have ended, and what failed is named.

`QUARRY_TEST_BATCH=2000` runs it with so many; one document in a hundred is broken, and at least two are.
"""

import asyncio
import os

import pytest

from tests.support.documents import broken_pdf
from tests.support.remote_system import Product
from tests.support.sse import listening
from tests.support.system import create_project

DOCUMENTS = int(os.environ.get("QUARRY_TEST_BATCH", "20"))
BROKEN = max(2, DOCUMENTS // 100)

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


async def test_a_batch_is_completed_with_the_right_counts(product: Product) -> None:
    _, owner = await product.tenant("batches")
    project = await create_project(owner)
    made = await owner.post(f"/v1/projects/{project}/batches", json={"name": "Archive", "expected": DOCUMENTS})
    assert made.status_code == 201, made.text
    path, batch = made.headers["location"], made.json()["id"]
    places = asyncio.Semaphore(8)
    broken: set[str] = set()

    async def upload(number: int) -> None:
        is_broken = number < BROKEN
        content = broken_pdf() + bytes(number) if is_broken else f"Keeper number {number} lit the lamp.".encode()
        content_type = "application/pdf" if is_broken else "text/plain"
        async with places:
            answer = await owner.post(
                f"/v1/projects/{project}/documents",
                params={"name": f"{number}.{'pdf' if is_broken else 'txt'}", "batch": batch},
                content=content,
                headers={"Content-Type": content_type},
            )
        assert (answer.status_code, answer.json()["batch_id"]) == (201, batch), answer.text
        if is_broken:
            broken.add(answer.json()["id"])

    async with listening(owner, f"/v1/projects/{project}/events") as live:
        await asyncio.gather(*map(upload, range(DOCUMENTS)))
        await live.until(lambda seen: seen.of("batch.completed"), within=240)
        ended = (await owner.get(path)).json()
        counts = {"indexed": DOCUMENTS - BROKEN, "failed": BROKEN, "cancelled": 0, "deleted": 0}
        assert ended["status"] == "completed"
        assert ended["counts"] == {**counts, "queued": 0, "indexing": 0, "total": DOCUMENTS}
        items = (await owner.get(f"{path}/items", params={"status": "failed", "limit": 200})).json()["items"]
        assert {item["id"]: item["error"]["code"] for item in items} == dict.fromkeys(broken, "corrupt_document")

        body = {"action": "delete", "filter": {"batch_id": batch, "status": ["failed"]}}
        deleted = await owner.post(f"/v1/projects/{project}/documents/bulk", json=body)
        assert deleted.json() == {"affected": BROKEN, "next_cursor": None}
        assert (await owner.get(path)).json()["counts"]["deleted"] == BROKEN
        await live.until(lambda seen: len(seen.of("document.deleted")) == BROKEN)
        (told,) = live.of("batch.completed")
        facts = {"batch_id": batch, "name": "Archive", **counts}
        assert {name: told.data[name] for name in facts} == facts
