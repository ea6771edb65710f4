"""Documents written by the tests, good and hostile."""

import io
import zipfile
from itertools import pairwise
from pathlib import Path

import docx.document
import fpdf

from services.indexing.pipeline.documents import Extracted
from services.indexing.pipeline.formats import extract_document
from services.indexing.pipeline.memory_files import mapped

WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
MANY = 16 * 1024 * 1024


def read(
    folder: Path, content: bytes, name: str = "document", *, declared_type: str = "", max_characters: int = MANY
) -> Extracted:
    """Extract in this process, without confinement."""
    path = folder / "content"
    path.write_bytes(content)
    with path.open("rb") as file:
        document = mapped(file.fileno())
    return extract_document(document, name=name, declared_type=declared_type, max_characters=max_characters)


def pdf(*pages: str, title: str | None = None, password: str | None = None) -> bytes:
    document = fpdf.FPDF()
    if title is not None:
        document.set_title(title)
    if password is not None:
        document.set_encryption(owner_password="owner", user_password=password)
    document.set_font("helvetica", size=12)
    for page in pages:
        document.add_page()
        if page:
            document.multi_cell(0, 6, page)
    return bytes(document.output())


def word_document() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Harbour   report"
    document.add_heading("Harbour report", 0)
    document.add_paragraph("Granite built the wall.")
    document.add_heading("Findings", 1)
    document.add_paragraph("The wall\tstill stands.")
    document.add_paragraph("first item", style="List Bullet")
    document.add_paragraph("second item", style="List Bullet")
    table = document.add_table(2, 2)
    for row, column, text in ((0, 0, "year"), (0, 1, "ships"), (1, 0, "1887"), (1, 1, "forty\ntwo")):
        table.cell(row, column).text = text
    document.add_paragraph("Closing words.")
    return saved(document)


def saved(document: docx.document.Document) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def word_archive(document: str, **parts: str) -> bytes:
    """An archive with `document` as word/document.xml and e.g. footnotes="..." as word/footnotes.xml."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("word/document.xml", document)
        for name, content in parts.items():
            archive.writestr(f"word/{name}.xml", content)
    return buffer.getvalue()


def word_body(body: str) -> str:
    return f'<?xml version="1.0"?><w:document {WORD}><w:body>{body}</w:body></w:document>'


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def slow_word_archive() -> bytes:
    """Some 40 KB that take about ten seconds of processor time to read."""
    return word_archive(word_body("<w:p/>" * 4_000_000))


def entity_bomb() -> str:
    """Ten entities, each ten times the one before: expanded, `&j;` is two gigabytes."""
    names = "abcdefghij"
    entities = "".join(f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in pairwise(names))
    return f'<!DOCTYPE bomb [<!ENTITY a "ha">{entities}]>'
