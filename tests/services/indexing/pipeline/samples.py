"""Documents written by the tests, good and hostile."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import docx.document
import fpdf

from services.indexing.pipeline.documents import DOCX, Extracted
from services.indexing.pipeline.formats import extract_document
from services.indexing.pipeline.memory_files import mapped

WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
WORD_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
OTHERS = (
    f'xmlns:r="{OFFICE}" xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" xmlns:v="urn:schemas-microsoft-com:vml" '
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:dgm="http://schemas.openxmlformats.org/drawingml/2006/diagram" '
    'xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart"'
)
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


@dataclass(frozen=True)
class Part:
    """A part of a Word document, to which its main part refers as `id`."""

    id: str
    kind: str
    path: str
    content: str | bytes
    content_type: str = "application/xml"


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def relationships(*targets: tuple[str, str, str]) -> str:
    """A part of relationships, from their ids, kinds and targets."""
    entries = "".join(f'<Relationship Id="{key}" Type="{OFFICE}/{kind}" Target="{to}"/>' for key, kind, to in targets)
    return f'<Relationships xmlns="{PACKAGE}/relationships">{entries}</Relationships>'


def content_types(types: Mapping[str, str]) -> str:
    """A part of content types, from the paths of parts."""
    entries = "".join(f'<Override PartName="/{path}" ContentType="{known_as}"/>' for path, known_as in types.items())
    return f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="xml" ContentType="text/xml"/>{entries}</Types>'


def word_archive(document: str, **parts: str) -> bytes:
    """A package with `document` as word/document.xml and e.g. footnotes="..." as word/footnotes.xml."""
    return zipped(
        {
            "word/document.xml": document,
            "[Content_Types].xml": content_types({"word/document.xml": WORD_TYPE}),
            "_rels/.rels": relationships(("main", "officeDocument", "word/document.xml")),
            **{f"word/{name}.xml": content for name, content in parts.items()},
        }
    )


def word_package(body: str, *parts: Part) -> bytes:
    """A package whose main part has `body` and refers to `parts`."""
    types = {"word/document.xml": WORD_TYPE, **{part.path: part.content_type for part in parts}}
    return zipped(
        {
            "word/document.xml": word_body(body),
            "[Content_Types].xml": content_types(types),
            "_rels/.rels": relationships(("main", "officeDocument", "word/document.xml")),
            "word/_rels/document.xml.rels": relationships(*((part.id, part.kind, f"/{part.path}") for part in parts)),
            **{part.path: part.content for part in parts},
        }
    )


def word_text(content: bytes, *, max_characters: int = MANY) -> str:
    """The text of a Word document, read in this process."""
    extracted = extract_document(memoryview(content), name="", declared_type="", max_characters=max_characters)
    assert extracted.content_type == DOCX
    return extracted.text


def word_body(body: str) -> str:
    return f'<?xml version="1.0"?><w:document {WORD} {OTHERS}><w:body>{body}</w:body></w:document>'


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


HELVETICA = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /StandardEncoding >>"


def drawn_pdf(
    content: str, *, page: str = "", fonts: str = "", catalog: str = "", objects: Sequence[bytes] = ()
) -> bytes:
    """A page that `content` draws, with Helvetica as /F. The `objects` are numbered from 6 on."""
    return pdf_of(
        f"<< /Type /Catalog /Pages 2 0 R {catalog} >>".encode(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R "
        + f"/Resources << /Font << /F 5 0 R {fonts} >> /XObject << /X 6 0 R >> >> {page} >>".encode(),
        pdf_stream(content),
        HELVETICA,
        *objects,
    )


def pdf_of(*objects: bytes) -> bytes:
    """A PDF of numbered objects, the first of which is the catalog."""
    out, places = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    return out + b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        size,
        table,
        size,
        len(out),
    )


def pdf_stream(content: str, entries: str = "") -> bytes:
    data = content.encode("latin-1")
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), entries.encode(), data)
