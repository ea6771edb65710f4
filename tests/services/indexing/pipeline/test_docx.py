"""Word documents: structure kept, hostile archives and XML refused."""

import io
import struct
import zipfile
from pathlib import Path

import docx
import pytest
from lxml import etree

from services.indexing.pipeline.documents import DOCX
from services.indexing.pipeline.errors import (
    CorruptDocument,
    DocumentEncrypted,
    DocumentTooLarge,
    EmptyDocument,
    UnsupportedContentType,
)
from services.indexing.pipeline.formats import limits
from tests.services.indexing.pipeline.samples import (
    WORD,
    entity_bomb,
    paragraph,
    read,
    saved,
    word_archive,
    word_body,
    word_document,
)

COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def test_headings_lists_and_tables_keep_their_shape(tmp_path: Path) -> None:
    extracted = read(tmp_path, word_document(), "report.docx")
    assert (extracted.content_type, extracted.title, extracted.pages) == (DOCX, "Harbour report", None)
    assert extracted.text == (
        "Harbour report\nGranite built the wall.\n\n\nFindings\nThe wall\tstill stands.\n\n"
        "• first item\n• second item\nyear\tships\n1887\tforty\ntwo\n\nClosing words."
    )


def test_the_bytes_decide_not_the_name(tmp_path: Path) -> None:
    assert read(tmp_path, word_document(), "notes.txt", declared_type="text/plain").content_type == DOCX


def test_pictures_are_not_unpacked(tmp_path: Path) -> None:
    buffer = io.BytesIO(word_archive(word_body(paragraph("Granite."))))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/media/picture.png", bytes(50_000_000))
    assert read(tmp_path, buffer.getvalue()).text == "Granite."


def test_numbered_paragraphs_and_outline_levels_are_structure(tmp_path: Path) -> None:
    numbered = "<w:p><w:pPr><w:numPr/><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t>{}</w:t></w:r></w:p>"
    outlined = '<w:p><w:pPr><w:outlineLvl w:val="0"/></w:pPr><w:r><w:t>Part</w:t></w:r></w:p>'
    inline = "<w:p><w:r><w:t>a</w:t><w:br/><w:t>b</w:t><w:tab/><w:t>c</w:t><w:noBreakHyphen/><w:t>d</w:t></w:r></w:p>"
    body = numbered.format("one") + numbered.format("two") + outlined + inline
    assert read(tmp_path, word_archive(word_body(body))).text == "one\ntwo\n\n\nPart\na\nb\tc-d"


def test_notes_nested_tables_and_text_boxes_are_read_once(tmp_path: Path) -> None:
    inner = f"<w:tbl><w:tr><w:tc>{paragraph('inner')}</w:tc></w:tr></w:tbl>"
    table = f"<w:tbl><w:tr><w:tc>{paragraph('outer')}{inner}{paragraph('')}</w:tc></w:tr></w:tbl>"
    box = (
        '<w:p><w:r><mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        f"<mc:Choice><w:txbxContent>{paragraph('boxed')}</w:txbxContent></mc:Choice>"
        f"<mc:Fallback><w:txbxContent>{paragraph('boxed')}</w:txbxContent></mc:Fallback>"
        "</mc:AlternateContent></w:r><w:r><w:t>around</w:t></w:r></w:p>"
    )
    footnotes = f"<w:footnotes {WORD}><w:footnote>{paragraph('a note')}</w:footnote></w:footnotes>"
    content = word_archive(word_body(table + box), footnotes=footnotes)
    assert read(tmp_path, content).text == "outer inner\n\nboxed\n\naround\n\na note"


def test_deleted_text_is_not_read_and_stray_rows_do_no_harm(tmp_path: Path) -> None:
    body = "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:ins><w:r><w:t>kept</w:t></w:r></w:ins></w:p>"
    assert read(tmp_path, word_archive(word_body(f"<w:tc/><w:tr/>{body}<w:t>stray</w:t><w:pPr/>"))).text == "kept"


def test_a_document_without_text_is_empty(tmp_path: Path) -> None:
    with pytest.raises(EmptyDocument):
        read(tmp_path, saved(docx.Document()))


@pytest.mark.parametrize("where", ["document", "styles", "footnotes"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entity_bombs_are_refused_unread(tmp_path: Path, where: str, encoding: str) -> None:
    parts = {"document": word_body(paragraph("Granite.")), where: f"{entity_bomb()}<w:p {WORD}><w:t>&j;</w:t></w:p>"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in parts.items():
            part = content.removeprefix('<?xml version="1.0"?>')
            archive.writestr(f"word/{name}.xml", f'<?xml version="1.0" encoding="{encoding}"?>{part}'.encode(encoding))
    with pytest.raises(CorruptDocument) as caught:
        read(tmp_path, buffer.getvalue())
    assert caught.value.kind in {"unsafe", "docx"}


def test_external_entities_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary", encoding="utf-8")
    document = f'<!DOCTYPE d [<!ENTITY s SYSTEM "file://{secret}">]>{word_body(paragraph("&s;"))[21:]}'
    with pytest.raises(CorruptDocument, match="refused for safety"):
        read(tmp_path, word_archive(document))


def test_a_part_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PART_BYTES", 1_000_000)
    with pytest.raises(DocumentTooLarge, match="unpacks to more data"):
        read(tmp_path, word_archive(word_body(paragraph("x" * 2_000_000))))


def test_an_archive_that_lies_about_its_size_is_damaged(tmp_path: Path) -> None:
    content = bytearray(word_archive(word_body(paragraph("granite " * 50_000))))
    declared = len(word_body(paragraph("granite " * 50_000)))
    for found in _positions(bytes(content), struct.pack("<I", declared)):
        content[found : found + 4] = struct.pack("<I", 100)
    with pytest.raises(CorruptDocument):
        read(tmp_path, bytes(content), "report.docx")


def test_too_much_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentTooLarge):
        read(tmp_path, word_archive(word_body(paragraph("granite") * 100)), max_characters=500)


def test_endless_nesting_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(CorruptDocument, match="Word document is damaged"):
        read(tmp_path, word_archive(word_body("<w:p>" * 100_000)))


@pytest.mark.parametrize("size", [0.3, 0.8])
def test_a_truncated_document_is_damaged(tmp_path: Path, size: float) -> None:
    whole = word_document()
    with pytest.raises(CorruptDocument, match="Word document is damaged"):
        read(tmp_path, whole[: int(len(whole) * size)], "report.docx")
    with pytest.raises(CorruptDocument):
        read(tmp_path, whole[: int(len(whole) * size)])


def test_broken_compression_is_damaged(tmp_path: Path) -> None:
    content = bytearray(word_archive(word_body(paragraph("granite " * 5000))))
    content[60:120] = b"\xff" * 60
    with pytest.raises(CorruptDocument):
        read(tmp_path, bytes(content))


def test_an_encrypted_entry_says_so(tmp_path: Path) -> None:
    content = bytearray(word_archive(word_body(paragraph("granite"))))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    with pytest.raises(DocumentEncrypted):
        read(tmp_path, bytes(content))


def test_a_password_protected_document_says_so(tmp_path: Path) -> None:
    name = "EncryptedPackage".encode("utf-16-le")
    for content in (COMPOUND_FILE + name, COMPOUND_FILE + bytes(3_000_000) + name):
        with pytest.raises(DocumentEncrypted):
            read(tmp_path, content, "report.docx")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (COMPOUND_FILE + bytes(4096), "Old Word files"),
        (b"%!PS-Adobe-3.0", "not supported"),
        (b"PK\x05\x06" + bytes(18), "an archive"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not supported"),
    ],
)
def test_other_formats_are_named_as_unsupported(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(UnsupportedContentType, match=sentence):
        read(tmp_path, content, "report.docx")


def test_running_out_of_memory_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise etree.XMLSyntaxError("no memory", etree.ErrorTypes.ERR_NO_MEMORY, 0, 0)

    monkeypatch.setattr(etree, "iterparse", exhausted)
    with pytest.raises(MemoryError):
        read(tmp_path, word_archive(word_body(paragraph("granite"))))


def _positions(content: bytes, wanted: bytes) -> list[int]:
    return [at for at in range(len(content)) if content.startswith(wanted, at)]
