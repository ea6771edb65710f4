"""A ZIP archive written from front to back, and the names in it.

`zipfile` of the standard library writes to anything that takes bytes: sizes and checksums follow each entry, and ZIP64
is used where an entry or the archive needs it. What it has written is passed on after every piece, so memory is that
of one piece and of the list of entries, some 700 bytes each.

Entries are deflated at level 0, which is not to compress them: readers that know only the front of a stream cannot find
the end of an entry that is just stored, and most large documents are compressed already.
"""

import re
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID
from zipfile import ZIP_DEFLATED, ZipFile

from services.projects.blobs.store import IncomingBlob
from services.projects.exports.models import Export

ZIP_TYPE: Final = "application/zip"
MANIFEST: Final = "manifest.json"
# File systems take 255 bytes for a name.
MOST_NAME_BYTES: Final = 200
_MOST_ENDING_BYTES: Final = 20
# From this size on an entry is in the ZIP64 format, which some readers of streams do not know.
_LARGE: Final = 2**31 - 1

_UNSAFE: Final = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')
# Names of devices on Windows, whatever their ending.
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|$)", re.IGNORECASE)


class Archive:
    """Entries, one after the other, and at last `finish`."""

    def __init__(self, blob: IncomingBlob) -> None:
        self._blob = blob
        self._written = _Written()
        self._zip = ZipFile(self._written, "w", ZIP_DEFLATED, compresslevel=0)

    async def add(self, path: str, size: int, chunks: AsyncIterator[bytes]) -> None:
        """An entry of about `size` bytes."""
        with self._zip.open(path, "w", force_zip64=size > _LARGE) as entry:
            async for chunk in chunks:
                entry.write(chunk)
                await self._pass_on()
        await self._pass_on()

    async def finish(self) -> None:
        self._zip.close()
        await self._pass_on()

    async def _pass_on(self) -> None:
        await self._blob.write(self._written.take())


class _Written:
    """A file for `ZipFile` that cannot be read or rewound."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """`take` has everything at once."""

    def close(self) -> None:
        """There is nothing to close."""

    def take(self) -> bytes:
        taken, self._pieces = self._pieces, []
        return b"".join(taken)


def entry_path(project_id: UUID, document_id: UUID, version: int, name: str) -> str:
    """Where the archive has a version: ids keep it apart from all others, whatever the document is called."""
    return f"{project_id}/{document_id}/{version}/{safe_name(name)}"


def safe_name(name: str) -> str:
    """A name that every file system takes, as like `name` as that allows; an ending is kept."""
    name = _UNSAFE.sub("_", name).rstrip(". ")
    if not name.strip(". ") or _DEVICE.match(name):
        name = f"_{name}"
    if len(name.encode()) <= MOST_NAME_BYTES:
        return name
    stem, dot, ending = name.rpartition(".")
    kept = (dot + ending).encode() if stem and len(ending.encode()) <= _MOST_ENDING_BYTES else b""
    cut = name.encode()[: MOST_NAME_BYTES - len(kept)].decode("utf-8", "ignore").rstrip(". ")
    return cut + kept.decode()


def file_name(export: Export) -> str:
    """What a download is called."""
    scope = "tenant" if export.project_id is None else f"project-{export.project_id}"
    return f"quarry-{scope}-{export.created_at:%Y%m%d-%H%M%S}.zip"
