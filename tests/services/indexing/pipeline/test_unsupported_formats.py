"""Files of other kinds are refused with a reason that names the kind and says what to do."""

import io
import struct
import zipfile
from pathlib import Path

import pytest

from services.indexing.pipeline.errors import DocumentEncrypted, UnsupportedContentType
from services.indexing.pipeline.formats import unsupported_formats
from tests.services.indexing.pipeline.samples import read


def archive(**entries: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in entries.items():
            made.writestr("[Content_Types].xml" if name == "types" else name, content)
    return buffer.getvalue()


def entry(name: str, *, child: int = 0xFFFFFFFF, left: int = 0xFFFFFFFF, right: int = 0xFFFFFFFF) -> bytes:
    encoded = name.encode("utf-16-le") + bytes(2)
    return struct.pack("<64sHBBIII", encoded, len(encoded), 1, 1, left, right, child).ljust(128, b"\0")


def compound_file(*names: str, embedded: str = "") -> bytes:
    """The container of old Office files: a header, a table of sectors, a directory of two sectors."""
    header = bytearray(512)
    header[:8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
    struct.pack_into("<H", header, 30, 9)
    struct.pack_into("<I", header, 48, 1)
    struct.pack_into("<109I", header, 76, 0, *[0xFFFFFFFF] * 108)
    table = struct.pack("<128I", 0xFFFFFFFD, 2, 0xFFFFFFFE, *[0xFFFFFFFF] * 125)
    entries = [entry("Root Entry", child=2), entry(embedded)]
    entries += [
        entry(name, right=number if number < len(names) + 2 else 0xFFFFFFFF) for number, name in enumerate(names, 3)
    ]
    return bytes(header) + table + b"".join(entries).ljust(1024, b"\0")


def types(main: str) -> str:
    content_type = f"application/vnd.{main}"
    return f'<Types><Override PartName="/x.xml" ContentType="{content_type}"/></Types>'


OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
REFUSED = {
    "xlsb": (archive(types=types("ms-excel.sheet.binary.macroEnabled.main")), "Binary workbooks .* .xlsx"),
    "vsdx": (archive(types=types("ms-visio.drawing.main+xml")), "Drawings"),
    "odg": (archive(mimetype=OPEN_DOCUMENT + "graphics"), "Drawings"),
    "pages": (archive(**{"Index/Document.iwa": ""}), "Pages, Numbers and Keynote"),
    "zip": (archive(mimetype="unknown", other=""), "an archive"),
    "doc": (compound_file("1Table", "WordDocument"), "Old Word files"),
    "xls": (compound_file("Workbook", embedded="WordDocument"), "Old Excel files .* .xlsx"),
    "xls of 1995": (compound_file("Book"), "Old Excel files"),
    "ppt": (compound_file("Current User", "Pictures", "PowerPoint Document"), "Old PowerPoint files"),
    "msg": (compound_file("__properties_version1.0"), "Outlook messages"),
    "ps": (b"%!PS-Adobe-3.0", "PostScript"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(99), "Pictures"),
    "heic": (bytes(3) + b"\x18ftypheic" + bytes(99), "Pictures"),
    "webp": (b"RIFF\x10\0\0\0WEBP" + bytes(99), "Pictures"),
    "bmp": (b"BM\x10\0\0\0" + bytes(99), "Pictures"),
    "mp4": (bytes(3) + b"\x18ftypisom" + bytes(99), "Audio and video"),
    "mp3": (b"ID3\x03" + bytes(99), "Audio and video"),
    "tar": (b"a.txt".ljust(257, b"\0") + b"ustar\x0000" + bytes(99), "an archive"),
    "bz2": (b"BZh91AY&SY" + bytes(99), "an archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(99), "an archive"),
    "exe": (b"MZ\x90\0\x03" + bytes(99), "Programs"),
    "elf": (b"\x7fELF\x02\x01" + bytes(99), "Programs"),
    "db": (b"SQLite format 3\0" + bytes(99), "Database files"),
    "bin": (bytes(range(256)) * 10, "not text"),
}


@pytest.mark.parametrize("name", ["x", "report.docx", "report.txt"])
@pytest.mark.parametrize("kind", REFUSED)
def test_the_reason_names_the_kind_and_what_to_do(tmp_path: Path, kind: str, name: str) -> None:
    content, reason = REFUSED[kind]
    with pytest.raises(UnsupportedContentType, match=reason) as refused:
        read(tmp_path, content, name)
    assert refused.value.kind in UnsupportedContentType.sentences


def test_a_protected_office_file_is_not_taken_for_an_old_one(tmp_path: Path) -> None:
    with pytest.raises(DocumentEncrypted):
        read(tmp_path, compound_file("EncryptionInfo", "EncryptedPackage"), "table.xlsx")


@pytest.mark.parametrize(("name", "reason"), [("a.xls", "Excel"), ("a.PPT", "PowerPoint"), ("a", "Word")])
def test_the_name_of_a_damaged_office_file_tells_its_kind(tmp_path: Path, name: str, reason: str) -> None:
    for content in (compound_file("Workbook")[:8] + bytes(4096), compound_file("Unknown")):
        with pytest.raises(UnsupportedContentType, match=reason):
            read(tmp_path, content, name)


def test_a_directory_in_a_circle_ends() -> None:
    content = bytearray(compound_file("Other"))
    struct.pack_into("<2I", content, 512 + 4, 1, 1)
    assert unsupported_formats.of_compound_file(memoryview(bytes(content))) is None


@pytest.mark.parametrize(
    "written", ["BMW builds cars.", "MZ is a mark.", "ID3 is a tag.", "RIFF and so on", "GIF, PNG"]
)
def test_text_that_begins_like_another_kind_is_text(tmp_path: Path, written: str) -> None:
    assert read(tmp_path, written.encode()).text == written
