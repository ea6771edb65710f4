"""Documents that are small to send and long to read, split or embed."""

import asyncio
import itertools
import random
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.fairness import neighbours
from tests.fairness.scenario import Attacker, Operation, Scenario
from tests.support.system import create_project, upload

_TEXT_BYTES = 1_500_000
_TEXTS = 4
_DELETED_AFTER = 4.0
_PDFS = 3
_PAGES = 400
_ROUND_SECONDS = 5.0
_EVERY = 1.0


@asynccontextmanager
async def _texts_without_a_space(attackers: Sequence[Attacker]) -> AsyncIterator[Operation]:
    (attacker,) = attackers
    project = await create_project(attacker.client, "attack")
    yield lambda: _upload_and_delete(attacker, project)


async def _upload_and_delete(attacker: Attacker, project: str) -> None:
    texts = (bytes([letter]) * _TEXT_BYTES for letter in b"abcd")
    han = ("\u4e00" * (_TEXT_BYTES // 3)).encode()
    contents = [*itertools.islice(texts, _TEXTS - 1), han]
    ids = await asyncio.gather(
        *(_upload(attacker, project, f"{number}.txt", content) for number, content in enumerate(contents))
    )
    await asyncio.sleep(_DELETED_AFTER)
    for document in ids:
        await attacker.client.delete(f"/v1/projects/{project}/documents/{document}")


@asynccontextmanager
async def _pages_that_share_a_stream(attackers: Sequence[Attacker]) -> AsyncIterator[Operation]:
    projects = [await create_project(attacker.client, "attack") for attacker in attackers]
    contents = [shared_stream(number) for number in range(_PDFS)]

    async def upload_all() -> None:
        for attacker, project in zip(attackers, projects, strict=True):
            for number, content in enumerate(contents):
                await _upload(attacker, project, f"{number}.pdf", content, "application/pdf")
        await asyncio.sleep(_ROUND_SECONDS)

    yield upload_all


@asynccontextmanager
async def _both(attackers: Sequence[Attacker]) -> AsyncIterator[Operation]:
    first, *others = attackers
    async with _texts_without_a_space([first]) as texts, _pages_that_share_a_stream(others) as pages:

        async def both() -> None:
            await asyncio.gather(texts(), pages())

        yield both


async def _upload(attacker: Attacker, project: str, name: str, content: bytes, content_type: str = "text/plain") -> str:
    return await upload(attacker.client, project, name, content, content_type)


def shared_stream(seed: int) -> bytes:
    """A PDF of some 55 kB: every page shows the same stream, which takes long to lay out and says little."""
    words = random.Random(seed)
    shown = b"".join(
        b"1 0 0 1 %d %d Tm (%d) Tj\n" % (words.randrange(600), words.randrange(800), words.randrange(10))
        for _ in range(4_500)
    )
    stream = zlib.compress(b"BT /F 9 Tf\n" + shown + b"ET", 9)
    kids = b" ".join(b"%d 0 R" % (5 + number) for number in range(_PAGES))
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 3 0 R/Resources<</Font<</F 4 0 R>>>>>>"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[%s]>>" % (_PAGES, kids),
        b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *[page] * _PAGES,
    ]
    body = b"".join(b"%d 0 obj%s\nendobj\n" % (number, made) for number, made in enumerate(objects, start=1))
    return b"%PDF-1.4\n" + body + b"trailer<</Root 1 0 R>>"


SCENARIOS = (
    Scenario(
        "endless-texts",
        f"{_TEXTS} texts of {_TEXT_BYTES / 1e6:g} MB without a space, deleted after {_DELETED_AFTER:g} s",
        neighbours.upload_until_indexed,
        _texts_without_a_space,
        every=_EVERY,
    ),
    Scenario(
        "shared-stream-pdfs",
        f"{_PDFS} PDFs of {_PAGES} pages that share one stream, again every {_ROUND_SECONDS:g} s, beside a note",
        neighbours.upload_until_indexed,
        _pages_that_share_a_stream,
        every=_EVERY,
    ),
    Scenario(
        "endless-documents",
        "both at once, by two tenants, beside a note",
        neighbours.upload_until_indexed,
        _both,
        attackers=2,
        every=_EVERY,
    ),
)
