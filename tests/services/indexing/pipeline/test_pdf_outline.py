"""What a PDF says about itself: its outline tells the headings of its passages, its title is one or none."""

from pathlib import Path

import fpdf
import pytest

from services.indexing.pipeline.chunking import chunk
from tests.services.indexing.pipeline.samples import drawn_pdf, pdf, read


def outlined(*pages: tuple[int, str, str]) -> bytes:
    document = fpdf.FPDF()
    document.set_font("helvetica", size=12)
    for level, heading, text in pages:
        document.add_page()
        document.multi_cell(0, 6, "Before it.", new_x="LMARGIN", new_y="NEXT")
        document.start_section(heading, level=level)
        document.multi_cell(0, 6, f"{heading}\n{text}")
    return bytes(document.output())


def test_the_outline_tells_the_headings(tmp_path: Path) -> None:
    extracted = read(tmp_path, outlined((0, "Walls", "Granite. " * 100), (1, "Costs", "Basalt. " * 100)))
    assert [(one.level, one.text) for one in extracted.structure.headings] == [(1, "Walls"), (2, "Costs")]
    assert all(extracted.text.startswith(one.text, one.start) for one in extracted.structure.headings)
    chunks = chunk(
        extracted.text, content_type=extracted.content_type, pages=extracted.pages, structure=extracted.structure
    )
    assert chunks[-1].location == {"page": 2, "headings": ["Walls", "Costs"]}
    assert chunks[-1].context == "Walls › Costs"


def test_an_outline_in_a_circle_ends(tmp_path: Path) -> None:
    entry = "<< /Title (Walls) /Parent 6 0 R /Next 7 0 R /First 7 0 R /Dest [3 0 R /Fit] >>"
    content = drawn_pdf(
        "BT /F 12 Tf 100 700 Td (Granite.) Tj ET",
        catalog="/Outlines 6 0 R",
        objects=[b"<< /Type /Outlines /First 7 0 R /Last 7 0 R >>", entry.encode()],
    )
    extracted = read(tmp_path, content)
    assert extracted.text == "Granite."
    assert [one.text for one in extracted.structure.headings] == ["Walls"]


@pytest.mark.parametrize(
    ("told", "title"),
    [
        ("Harbour report", "Harbour report"),
        ("Microsoft Word - Harbour report", "Harbour report"),
        ("Microsoft Word - Document1", None),
        ("untitled", None),
        ("harbour_v3-final.docx", None),
        ("Vol. 2 of the report", "Vol. 2 of the report"),
    ],
)
def test_the_name_of_a_file_is_no_title(tmp_path: Path, told: str, title: str | None) -> None:
    assert read(tmp_path, pdf("Granite.", title=told)).title == title
