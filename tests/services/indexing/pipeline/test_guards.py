"""Bombs of other makes: what unpacks to more than anybody could hold is not unpacked, or not for long."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.indexing.pipeline.errors import ExtractionError, UnsupportedContentType
from services.indexing.pipeline.extraction import ExtractionPool
from tests.services.indexing.pipeline.samples import pdf_of
from tests.services.indexing.pipeline.test_extraction import extract

_ZEROS = bytes(10_000_000)


@pytest.fixture(scope="module")
async def pool() -> AsyncIterator[ExtractionPool]:
    async with ExtractionPool(1) as running:
        yield running


def nested(levels: int) -> bytes:
    """A zip in a zip in a zip."""
    content = _ZEROS
    for level in range(levels):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(3):
                archive.writestr(f"{level}-{number}.zip", content)
        content = out.getvalue()
    return content


PACKED = {
    "gzip": gzip.compress(_ZEROS),
    "gzip in gzip": gzip.compress(gzip.compress(_ZEROS)),
    "bzip2": bz2.compress(_ZEROS),
    "xz": lzma.compress(_ZEROS),
    "zip in zip": nested(3),
}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("name", ["report.docx", "report.txt", "report.pdf"])
async def test_packed_and_nested_archives_are_not_unpacked(
    pool: ExtractionPool, tmp_path: Path, kind: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(PACKED[kind])
    with pytest.raises(UnsupportedContentType) as refused:
        await extract(pool, path)
    assert refused.value.permanent


async def test_a_page_that_unpacks_to_gigabytes_harms_nobody(pool: ExtractionPool, tmp_path: Path) -> None:
    """A PDF whose one content stream is packed twice and holds half a gigabyte of operators."""
    path = tmp_path / "bomb.pdf"
    path.write_bytes(pdf_bomb())
    assert path.stat().st_size < 100_000
    with pytest.raises(ExtractionError) as refused:
        await extract(pool, path)
    assert refused.value.permanent
    note = tmp_path / "note.txt"
    note.write_text("Granite built the wall.")
    assert (await extract(pool, note)).text == "Granite built the wall."


def pdf_bomb() -> bytes:
    packer = zlib.compressobj(9)
    once = b"".join(packer.compress(b" " * 10_000_000) for _ in range(50)) + packer.flush()
    twice = zlib.compress(once, 9)
    return pdf_of(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>",
        b"<< /Filter [/FlateDecode /FlateDecode] /Length %d >>\nstream\n%s\nendstream" % (len(twice), twice),
    )
