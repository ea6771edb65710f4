"""Documents made on the spot, one of each format, each with a sentence worth finding."""

import io
from dataclasses import dataclass

import docx
import fpdf


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
    return [_pdf(), _docx(), _html(), _markdown(), _text()]


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
    for page in ("Annual report of the coast guard station.", sentence):
        pdf.add_page()
        pdf.multi_cell(0, 8, page)
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
