"""Names the kind of a file that is not supported: its reason says what the file is and what to do (see `errors`)."""

import struct
import zipfile
import zlib
from collections.abc import Iterator

# Kinds by how their files begin. Where text could begin so too, more than the beginning decides, below.
_BEGINNINGS = (
    (b"%!PS", "postscript"),
    (b"\x89PNG\r\n\x1a\n", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF87a", "image"),
    (b"GIF89a", "image"),
    (b"II*\0", "image"),
    (b"MM\0*", "image"),
    (b"8BPS\0", "image"),
    (b"AT&TFORM", "image"),
    (b"\x1f\x8b", "archive"),
    (b"\xfd7zXZ\0", "archive"),
    (b"7z\xbc\xaf\x27\x1c", "archive"),
    (b"Rar!\x1a\x07", "archive"),
    (b"\x28\xb5\x2f\xfd", "archive"),
    (b"MSCF\0\0\0\0", "archive"),
    (b"OggS\0", "media"),
    (b"fLaC\0", "media"),
    (b"ID3\x02", "media"),
    (b"ID3\x03", "media"),
    (b"ID3\x04", "media"),
    (b"\x1a\x45\xdf\xa3", "media"),
    (b"\x7fELF", "program"),
    (b"\xca\xfe\xba\xbe", "program"),
    (b"\xcf\xfa\xed\xfe", "program"),
    (b"\0asm", "program"),
    (b"SQLite format 3\0", "database"),
)
_RIFF = {b"WEBP": "image", b"WAVE": "media", b"AVI ": "media"}
_PICTURE_BRANDS = frozenset({b"heic", b"heix", b"heif", b"mif1", b"avif"})

# The main part's type, in `[Content_Types].xml`; the type of an OpenDocument file or a book, in `mimetype`.
_IN_CONTENT_TYPES = ((b"ms-excel.sheet.binary", "xlsb"), (b"visio", "drawing"))
_IN_MIME_TYPE = ((b"opendocument", "drawing"),)
_MOST_READ = 256 * 1024

_FREE_SECTOR = 0xFFFFFFFA
_NO_ENTRY = 0xFFFFFFFF
_ENTRY_BYTES = 128
# An Office file has a few dozen entries, and embedded files some more.
_MOST_ENTRIES = 20_000
_STREAMS = (
    ("EncryptedPackage", "encrypted"),
    ("WordDocument", "doc"),
    ("Workbook", "xls"),
    ("Book", "xls"),
    ("PowerPoint Document", "ppt"),
    ("PP97_DUALSTORAGE", "ppt"),
    ("VisioDocument", "drawing"),
    ("__properties_version1.0", "message"),
)


def of_bytes(head: bytes) -> str | None:
    """The kind of a file that begins with `head`; None if it may be text."""
    found = next((kind for beginning, kind in _BEGINNINGS if head.startswith(beginning)), None)
    if found is None and head.startswith(b"RIFF"):
        found = _RIFF.get(head[8:12])
    elif found is None and head[4:8] == b"ftyp":
        found = "image" if head[8:12] in _PICTURE_BRANDS else "media"
    elif (head.startswith(b"BZh") and head[4:10] == b"1AY&SY") or head[257:262] == b"ustar":
        found = "archive"
    elif head.startswith(b"BM") and head[6:10] == bytes(4):
        found = "image"
    elif head.startswith(b"MZ") and b"\0" in head[:64]:
        found = "program"
    return found


def of_archive(archive: zipfile.ZipFile) -> str:
    """The kind of a zip archive that is no document."""
    for name, kinds in (("mimetype", _IN_MIME_TYPE), ("[Content_Types].xml", _IN_CONTENT_TYPES)):
        content = beginning(archive, name)
        for mark, kind in kinds:
            if mark in content:
                return kind
    return "iwork" if any(name.endswith(".iwa") for name in archive.namelist()) else "archive"


def beginning(archive: zipfile.ZipFile, name: str) -> bytes:
    """The first bytes of an entry; none if it is missing or damaged."""
    try:
        with archive.open(name) as entry:
            return entry.read(_MOST_READ)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, KeyError):
        return b""


def of_compound_file(content: memoryview) -> str | None:
    """The kind of a file in the container of old Office formats (MS-CFB), by the streams of its root.

    "encrypted" for what Office has protected by a password; None if nothing known is found.
    """
    try:
        entries = list(_entries(content))
        names = {_name_of(entry) for entry in _children(entries)}
    except (struct.error, IndexError):
        return None
    return next((kind for name, kind in _STREAMS if name in names), None)


def _entries(content: memoryview) -> Iterator[bytes]:
    """The directory's entries, in the order by which they refer to each other."""
    shift, first = struct.unpack_from("<H", content, 30)[0], struct.unpack_from("<I", content, 48)[0]
    if shift not in (9, 12):
        return
    size = 1 << shift
    table = struct.unpack_from("<109I", content, 76)
    sector, found = first, 0
    while sector < _FREE_SECTOR and found < _MOST_ENTRIES:
        begin = (sector + 1) * size
        part = bytes(content[begin : begin + size])
        for start in range(0, len(part), _ENTRY_BYTES):
            yield part[start : start + _ENTRY_BYTES]
        found += size // _ENTRY_BYTES
        block, place = divmod(sector, size // 4)
        # Beyond 109 blocks the table goes on elsewhere; a directory that begins there, at 7 MB, is read so far.
        if block >= len(table) or table[block] >= _FREE_SECTOR:
            return
        (sector,) = struct.unpack_from("<I", content, (table[block] + 1) * size + 4 * place)


def _children(entries: list[bytes]) -> Iterator[bytes]:
    """Those directly in the root: the others belong to embedded files."""
    waiting, seen = [struct.unpack_from("<I", entries[0], 76)[0]], set[int]()
    while waiting:
        at = waiting.pop()
        if at == _NO_ENTRY or at in seen or at >= len(entries):
            continue
        seen.add(at)
        yield entries[at]
        waiting += struct.unpack_from("<II", entries[at], 68)


def _name_of(entry: bytes) -> str:
    (length,) = struct.unpack_from("<H", entry, 64)
    return entry[: max(min(length, 64) - 2, 0)].decode("utf-16-le", errors="replace")
