"""PDF: glyphs to characters. Fonts that are not there, accents of their own, ligatures in right-to-left text."""

from pathlib import Path

import pytest

from tests.services.indexing.pipeline.samples import drawn_pdf, pdf_stream, read


def font(ordering: str, encoding: str) -> list[bytes]:
    """A font that is named and described, but not contained."""
    system = f"/CIDSystemInfo << /Registry (Adobe) /Ordering ({ordering}) /Supplement 2 >>"
    return [
        f"<< /Type /Font /Subtype /Type0 /BaseFont /Absent /Encoding /{encoding} /DescendantFonts [7 0 R] >>".encode(),
        f"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /Absent {system} /FontDescriptor 8 0 R >>".encode(),
        b"<< /Type /FontDescriptor /FontName /Absent /Flags 4 /ItalicAngle 0 /Ascent 800 /Descent -200 /StemV 80 >>",
    ]


@pytest.mark.parametrize(
    ("ordering", "encoding", "text", "codec"),
    [
        ("Japan1", "UniJIS-UCS2-H", "日本語", "utf-16-be"),
        ("Japan1", "UniJIS-UCS2-V", "日本語", "utf-16-be"),
        ("Japan1", "90ms-RKSJ-V", "日本語", "cp932"),
        ("GB1", "GBK-EUC-V", "中文", "gbk"),
        ("CNS1", "ETen-B5-V", "中文", "big5"),
        ("Korea1", "KSCms-UHC-V", "한국", "cp949"),
    ],
)
def test_text_in_fonts_that_are_not_contained(
    tmp_path: Path, ordering: str, encoding: str, text: str, codec: str
) -> None:
    content = f"BT /G 12 Tf 100 700 Td <{text.encode(codec).hex()}> Tj ET"
    assert read(tmp_path, drawn_pdf(content, fonts="/G 6 0 R", objects=font(ordering, encoding))).text == text


def test_vertical_text_in_a_font_that_is_known_by_its_glyphs(tmp_path: Path) -> None:
    content = "BT /G 12 Tf 100 700 Td <04D204D304D4> Tj ET"
    assert read(tmp_path, drawn_pdf(content, fonts="/G 6 0 R", objects=font("Japan1", "Identity-V"))).text == "碓臼渦"


@pytest.mark.parametrize(
    ("operators", "text"),
    [
        ("[(Ren) -60 (\\302) 390 (e is here)] TJ", "René is here"),
        ("(Ren) Tj 23.3 0 Td (\\302) Tj -1.3 0 Td (e is here) Tj", "René is here"),
        ("[(na) (\\310) 333 (\\365) (ve)] TJ", "naïve"),
        ("[(cafe) 440 (\\302) -107 ( now)] TJ", "café now"),
        ("[(gar\\313) 333 (con)] TJ", "garçon"),
        ("(f'\\(x\\) ~ x^2 in ~/src) Tj", "f’(x) ~ x^2 in ~/src"),
        ("(an \\302 apart) Tj", "an ´ apart"),
    ],
    ids=["kerned", "placed", "dotless", "behind", "cedilla", "ascii", "spacing"],
)
def test_accents_of_their_own_are_combined_with_their_letters(tmp_path: Path, operators: str, text: str) -> None:
    assert read(tmp_path, drawn_pdf(f"BT /F 12 Tf 20 700 Td {operators} ET")).text == text


def arabic(folder: Path, glyphs: str, **meanings: str) -> str:
    """Text whose glyphs, from left to right, have these meanings."""
    lines = "".join(f"<{ord(glyph):02x}> <{text.encode('utf-16-be').hex()}>\n" for glyph, text in meanings.items())
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def "
        "1 begincodespacerange <00> <ff> endcodespacerange "
        f"{len(meanings)} beginbfchar {lines} endbfchar endcmap end end"
    )
    letters = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 7 0 R >>"
    content = f"BT /G 12 Tf 20 700 Td ({glyphs}) Tj ET"
    return read(folder, drawn_pdf(content, fonts="/G 6 0 R", objects=[letters, pdf_stream(cmap)])).text


def test_ligatures_are_not_reversed_with_their_line(tmp_path: Path) -> None:
    assert arabic(tmp_path, "abca", a="م", b="لا", c="س") == "مسلام"
    assert arabic(tmp_path, "dbac", a="ل", b="إ", c="ا", d="ن") == "الإن"
    assert arabic(tmp_path, "dbc", b="لإ", c="ا", d="ن") == "الإن"
    assert arabic(tmp_path, "ab", a="م", b="\ufefb") == "لام"


def test_characters_beyond_the_basic_plane_are_kept(tmp_path: Path) -> None:
    assert arabic(tmp_path, "abc", a="𠮷", b="野", c="😀") == "𠮷野😀"
