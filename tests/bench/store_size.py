"""What metadata costs in the vector store: `uv run python -m tests.bench.store_size`.

One document of 150 kB of text with 16 kB of metadata, as it is stored and as it would be if every chunk carried all of
its metadata. Prints the bytes of points on disk beyond those of the same document without metadata.
"""

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson

from services.indexing.vectors import metadata_terms
from services.indexing.vectors.store import EmbeddedStore
from tests.services.indexing.vectors.samples import chunk

_CHUNKS: Final = 208
_METADATA: Final = {f"some field {number}": f"a value {number}" for number in range(450)}


async def main() -> None:
    print(f"{_CHUNKS} chunks, {len(orjson.dumps(_METADATA))} bytes of metadata")
    bare = await _stored({})
    kept_once = await _stored(_METADATA)
    metadata_terms.COPIED_BYTES = 1 << 30  # type: ignore[misc]
    copied = await _stored(_METADATA)
    print(f"copied to every chunk: {(copied - bare) / 1e6:.1f} MB")
    print(f"kept once:             {(kept_once - bare) / 1e6:.1f} MB")


async def _stored(metadata: Mapping[str, str]) -> int:
    with tempfile.TemporaryDirectory(prefix="quarry-size-") as folder:
        store = EmbeddedStore(Path(folder))
        await store.start()
        try:
            document_id = uuid4()
            points = [
                chunk(f"chunk {index}", document_id=document_id, chunk_index=index, metadata=metadata)
                for index in range(_CHUNKS)
            ]
            await store.project(uuid4(), uuid4()).upsert(points)
            await store.flush()
        finally:
            await store.stop()
        # Blocks, since the store makes its files larger than what is in them.
        return sum(path.stat().st_blocks * 512 for path in Path(folder).rglob("*") if path.is_file())


if __name__ == "__main__":
    asyncio.run(main())
