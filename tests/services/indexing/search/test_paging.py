"""Pages while documents come and go: nothing is shown twice, and nothing that was there all the time is left out."""

import random
import uuid
from typing import Any

import pytest

from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.search.conftest import Search
from tests.services.indexing.uploads import Library

SEED = 20_261_129


async def uploaded(library: Library, name: str, words: int) -> uuid.UUID:
    document_id = await library.upload(f"Granite {'granite ' * words}in harbour {name}.", name=name)
    assert await ends(library, document_id) == "indexed"
    return document_id


@pytest.mark.parametrize("mode", ["keyword", "semantic", "hybrid"])
@pytest.mark.parametrize("group_by", [None, "document"])
async def test_uploads_and_deletions_between_pages_repeat_and_skip_nothing(
    search: Search, library: Library, mode: str, group_by: str | None
) -> None:
    dice = random.Random(SEED)
    there = {f"old {number}": await uploaded(library, f"old {number}", dice.randrange(6)) for number in range(10)}
    stayed, shown = set(there), list[str]()
    options: dict[str, Any] = {"mode": mode, "group_by": group_by, "limit": 2}
    for number in range(40):
        page = (await search(library, "granite harbour", **options)).json()
        shown += [item["document_name"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        options["cursor"] = page["next_cursor"]
        if number < 4:
            # One that was shown or not, and one that ranks before or after what was.
            gone = dice.choice(sorted(there))
            await library.delete(there.pop(gone))
            stayed.discard(gone)
            there[f"new {number}"] = await uploaded(library, f"new {number}", dice.randrange(6))
    assert len(shown) == len(set(shown))
    assert stayed <= set(shown)
    assert page["next_cursor"] is None
