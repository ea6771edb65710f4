"""PDF: pages with their spans, paragraphs made whole again, and the ways a PDF cannot be read."""

from pathlib import Path
from typing import Self

import pypdfium2
import pytest

from services.indexing.pipeline.documents import PDF
from services.indexing.pipeline.errors import (
    CorruptDocument,
    DocumentEncrypted,
    DocumentTooLarge,
    EmptyDocument,
)
from services.indexing.pipeline.formats.pdf import _pages, reflow
from tests.services.indexing.pipeline.samples import pdf, read

PROSE = "The quarry opened in 1887 and its granite built the harbour wall, which still stands today. " * 4


def test_each_page_knows_its_place_in_the_text(tmp_path: Path) -> None:
    extracted = read(tmp_path, pdf("First page.", "", "Third page.", title="Harbour"), "report.pdf")
    assert (extracted.content_type, extracted.title) == (PDF, "Harbour")
    assert extracted.pages is not None
    texts = [(page.number, extracted.text[page.start : page.end]) for page in extracted.pages]
    assert texts == [(1, "First page."), (2, ""), (3, "Third page.")]


def test_the_bytes_decide_not_the_name(tmp_path: Path) -> None:
    assert read(tmp_path, pdf("Granite."), "notes.txt", declared_type="text/plain").content_type == PDF


def test_rubbish_before_the_header_is_forgiven_when_the_name_says_pdf(tmp_path: Path) -> None:
    assert read(tmp_path, b"HTTP rubbish\n" + pdf("Granite."), "notes.pdf").text == "Granite."


def test_lines_become_paragraphs(tmp_path: Path) -> None:
    extracted = read(tmp_path, pdf(PROSE + "\nShort one.\n- bullet one\n- bullet two"))
    assert extracted.text.split("\n") == [PROSE.strip(), "Short one.", "- bullet one", "- bullet two"]


def test_words_cut_at_line_ends_are_joined() -> None:
    lines = [
        "The granite of the eastern face was extra-",
        "ordinary and nobody in the village would con\ufffe",
        "test it.",
    ]
    assert (
        reflow("\r\n".join(lines))
        == "The granite of the eastern face was extraordinary and nobody in the village would contest it."
    )
    assert (
        reflow("built between eighteen eighty and 1887-\n1890 in the east")
        == "built between eighteen eighty and 1887- 1890 in the east"
    )


def test_blank_lines_end_a_paragraph() -> None:
    assert reflow("a line of text\n\nanother line ok") == "a line of text\nanother line ok"
    assert reflow(" \n ") == ""


def test_a_sentence_goes_on_over_the_page_break(tmp_path: Path) -> None:
    assert read(tmp_path, pdf("The wall was", "built of granite.")).text == "The wall was built of granite."


def test_a_pdf_without_text_says_that_it_may_be_a_scan(tmp_path: Path) -> None:
    with pytest.raises(EmptyDocument, match="scan"):
        read(tmp_path, pdf("", ""))


@pytest.mark.parametrize("size", [0.2, 0.5, 0.9])
def test_a_truncated_pdf_is_damaged(tmp_path: Path, size: float) -> None:
    whole = pdf(*[PROSE] * 5)
    with pytest.raises(CorruptDocument, match=r"The PDF is damaged and cannot be opened\."):
        read(tmp_path, whole[: int(len(whole) * size)], "report.pdf")


def test_rubbish_with_a_pdf_header_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(CorruptDocument):
        read(tmp_path, b"%PDF-1.7\nnothing of the kind")


class _Page:
    """A page of pdfium's that has `text`, or cannot be loaded."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_textpage(self) -> Self:
        if not self._text:
            raise pypdfium2.PdfiumError("Failed to load page.")
        return self

    def get_text_range(self) -> str:
        return self._text

    def close(self) -> None:
        return


def test_pages_that_cannot_be_read_are_left_out_unless_none_can() -> None:
    assert list(_pages([_Page(""), _Page("Second page.")])) == ["", "Second page."]
    with pytest.raises(CorruptDocument):
        list(_pages([_Page(""), _Page("")]))


def test_a_password_is_asked_to_be_removed(tmp_path: Path) -> None:
    with pytest.raises(DocumentEncrypted, match="password"):
        read(tmp_path, pdf("Secret.", password="open sesame"))


def test_a_pdf_with_too_much_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentTooLarge):
        read(tmp_path, pdf(PROSE, PROSE), max_characters=200)
