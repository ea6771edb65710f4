"""Documents made on the spot, one of each format, each with a sentence worth finding."""

import io
from dataclasses import dataclass

import docx
import fpdf

from services.indexing.pipeline.documents import EML, EPUB, ODT, PPTX, XLSX
from tests.services.indexing.pipeline.office_samples import (
    book,
    inline_row,
    open_document,
    page,
    presentation,
    shape,
    workbook,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A document and how to find it: by a word only it has, and by other words for what it says."""

    name: str
    content_type: str
    content: bytes
    sentence: str
    keyword: str
    paraphrase: str


def samples() -> list[Sample]:
    """One document of each supported format."""
    return [_pdf(), _docx(), _pptx(), _xlsx(), _odt(), _epub(), _message(), _table(), _html(), _markdown(), _text()]


def broken_pdf() -> bytes:
    """A PDF by its first bytes, and nothing a reader could open."""
    return b"%PDF-1.7\n" + bytes(range(256)) * 8


def note(number: int, *, size: int = 2048) -> bytes:
    """A text of about `size` bytes that differs from every other note."""
    lines = [f"Note {number}. The code word of this note is marker{number:06d}."]
    subjects = ("harbour", "orchard", "glacier", "railway", "library", "furnace", "meadow", "satellite")
    while sum(len(line) + 1 for line in lines) < size:
        subject = subjects[(number + len(lines)) % len(subjects)]
        lines.append(f"Paragraph {len(lines)} of note {number} tells how the {subject} was kept in good repair.")
    return "\n".join(lines).encode()


def _pdf() -> Sample:
    sentence = "The lighthouse keeper repaired the broken lamp before the storm arrived."
    pdf = fpdf.FPDF()
    pdf.set_font("Helvetica", size=12)
    for text in ("Annual report of the coast guard station.", sentence):
        pdf.add_page()
        pdf.multi_cell(0, 8, text)
    return Sample(
        "report.pdf",
        "application/pdf",
        bytes(pdf.output()),
        sentence,
        "lighthouse",
        "somebody fixed the light at sea ahead of bad weather",
    )


def _docx() -> Sample:
    sentence = "Photosynthesis turns sunlight, water and carbon dioxide into sugar."
    document = docx.Document()
    document.add_heading("Biology notes", level=1)
    document.add_paragraph(sentence)
    out = io.BytesIO()
    document.save(out)
    return Sample(
        "biology.docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        out.getvalue(),
        sentence,
        "photosynthesis",
        "how plants make food from light",
    )


def _pptx() -> Sample:
    sentence = "The maker recalled thousands of toasters after a fault in the heating coil."
    content = presentation(shape("Recall", placeholder="title") + shape(sentence))
    return Sample("recall.pptx", PPTX, content, sentence, "toasters", "kitchen appliance withdrawn because of a defect")


def _xlsx() -> Sample:
    sentence = "Reindeer herd moved to the winter pasture"
    rows = inline_row(1, "Event", "Month") + inline_row(2, sentence, "November")
    content = workbook({"Herds": rows})
    return Sample("herds.xlsx", XLSX, content, sentence, "reindeer", "animals grazing elsewhere in the cold season")


def _odt() -> Sample:
    sentence = "The cellist tuned her instrument while the audience took their seats."
    content = open_document("text", f"<text:h>Concert</text:h><text:p>{sentence}</text:p>")
    return Sample("concert.odt", ODT, content, sentence, "cellist", "musician prepares before a performance")


def _epub() -> Sample:
    sentence = "At midnight the smuggler rowed across the bay with three barrels of brandy."
    content = book({"one.xhtml": page("Chapter one", sentence)}, title="The bay")
    return Sample("bay.epub", EPUB, content, sentence, "smuggler", "a criminal brings spirits ashore in a small boat")


def _message() -> Sample:
    sentence = "Please reschedule the dentist appointment to Thursday afternoon."
    content = f"From: zoe@example.org\nTo: office@example.org\nSubject: Dentist\n\n{sentence}\n".encode()
    return Sample("letter.eml", EML, content, sentence, "reschedule", "another day for the check of my teeth")


def _table() -> Sample:
    sentence = "Copper wire for the doorbell"
    content = f'item,price\n"{sentence}",4.20\n"Oak plank, long",17.00\n'.encode()
    return Sample("prices.csv", "text/csv", content, sentence, "copper", "what does metal cable cost")


def _html() -> Sample:
    sentence = "The court ruled that the tenant need not pay rent for the flooded basement."
    page = f"<!doctype html><html><head><title>Case</title></head><body><h1>Ruling</h1><p>{sentence}</p></body></html>"
    return Sample(
        "ruling.html", "text/html", page.encode(), sentence, "basement", "judge decides about payment for a wet cellar"
    )


def _markdown() -> Sample:
    sentence = "Knead the dough for ten minutes and let it rise overnight in the refrigerator."
    text = f"# Sourdough\n\n## Method\n\n{sentence}\n"
    return Sample(
        "bread.md", "text/markdown", text.encode(), sentence, "refrigerator", "how long to work bread before baking"
    )


def _text() -> Sample:
    sentence = "The satellite lost contact with the ground station after the solar flare."
    return Sample(
        "incident.txt",
        "text/plain",
        f"Incident log.\n\n{sentence}\n".encode(),
        sentence,
        "satellite",
        "spacecraft stopped communicating because of an eruption on the sun",
    )
