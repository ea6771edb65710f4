"""PDF: pages with their spans, paragraphs made whole again, and the ways a PDF cannot be read."""

from pathlib import Path

import pytest

from services.indexing.pipeline.documents import PDF, PageSpan
from services.indexing.pipeline.errors import (
    CorruptDocument,
    DocumentEncrypted,
    DocumentTooLarge,
    EmptyDocument,
)
from tests.services.indexing.pipeline.samples import HELVETICA, drawn_pdf, pdf, pdf_of, pdf_stream, read

GREY = "/Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8"
PICTURE = pdf_stream("0", GREY)
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


def test_pages_that_cannot_be_read_are_left_out_unless_none_can(tmp_path: Path) -> None:
    catalog = b"<< /Type /Catalog /Pages 2 0 R >>"
    page = b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>"
    kids = b"<< /Type /Pages /Kids [%s] /Count %d /MediaBox [0 0 300 300] >>"
    text = pdf_stream("BT /F 12 Tf 20 200 Td (Second page.) Tj ET")
    extracted = read(tmp_path, pdf_of(catalog, kids % (b"9 0 R 3 0 R", 2), page, text, HELVETICA))
    assert extracted.text == "Second page."
    assert extracted.pages == (PageSpan(1, 0, 0), PageSpan(2, 0, 12))
    assert extracted.partly_read == ("unreadable_page",)
    with pytest.raises(CorruptDocument):
        read(tmp_path, pdf_of(catalog, kids % (b"9 0 R 9 0 R", 2), page, text, HELVETICA))


def test_a_word_cut_at_the_end_of_a_page_is_made_whole(tmp_path: Path) -> None:
    extracted = read(tmp_path, pdf("The wall was extra-", "ordinary. It was self-", "made."))
    assert extracted.text == "The wall was extraordinary. It was self-made."
    assert extracted.pages is not None
    texts = [extracted.text[page.start : page.end] for page in extracted.pages]
    assert texts == ["The wall was extra", "ordinary. It was self-", "made."]


def test_a_page_that_is_only_a_picture_makes_the_document_partly_read(tmp_path: Path) -> None:
    picture = drawn_pdf("q 600 0 0 800 0 0 cm /X Do Q", objects=[PICTURE])
    with pytest.raises(EmptyDocument, match="scan"):
        read(tmp_path, picture)
    two = drawn_pdf(
        "q 600 0 0 800 0 0 cm /X Do Q",
        objects=[
            PICTURE,
            b"<< /Type /Pages /Kids [3 0 R 8 0 R] /Count 2 >>",
            b"<< /Type /Page /Parent 7 0 R /MediaBox [0 0 99 99] /Contents 9 0 R "
            b"/Resources << /Font << /F 5 0 R >> >> >>",
            pdf_stream("BT /F 9 Tf 9 9 Td (Text.) Tj ET"),
        ],
    ).replace(b"/Catalog /Pages 2 0 R", b"/Catalog /Pages 7 0 R")
    extracted = read(tmp_path, two)
    assert (extracted.text, extracted.partly_read) == ("Text.", ("scanned_page",))


@pytest.mark.parametrize(("encoding", "text"), [("Identity-H", "Text."), ("Identity-V", "")])
def test_text_without_a_meaning_makes_the_document_partly_read(tmp_path: Path, encoding: str, text: str) -> None:
    """A font that says which glyphs it draws, but not what they mean."""
    font = f"<< /Type /Font /Subtype /Type0 /BaseFont /Odd /Encoding /{encoding} /DescendantFonts [7 0 R] >>"
    descendant = (
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Odd "
        b"/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>"
    )
    note = b"<< /Type /Annot /Subtype /Text /Rect [0 0 9 9] /Contents (A note.) >>"
    content = f"BT /F 12 Tf 20 700 Td ({text}) Tj ET BT /G 12 Tf 20 600 Td <00410042004300440045004600470048> Tj ET"
    document = drawn_pdf(content, fonts="/G 6 0 R", page="/Annots [8 0 R]", objects=[font.encode(), descendant, note])
    extracted = read(tmp_path, document)
    assert extracted.text.startswith(text)
    assert extracted.text.endswith("A note.")
    assert extracted.partly_read == ("undecodable_text",)


def test_blank_pages_are_read_in_full(tmp_path: Path) -> None:
    assert read(tmp_path, pdf("", "Text.")).partly_read == ()
    assert read(tmp_path, pdf(" ", "Text.")).partly_read == ()


def test_a_password_is_asked_to_be_removed(tmp_path: Path) -> None:
    with pytest.raises(DocumentEncrypted, match="password"):
        read(tmp_path, pdf("Secret.", password="open sesame"))


def test_a_pdf_with_too_much_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentTooLarge):
        read(tmp_path, pdf(PROSE, PROSE), max_characters=200)
