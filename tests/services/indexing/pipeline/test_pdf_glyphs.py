"""PDF: glyphs to characters, in fonts that are not there."""

from pathlib import Path

import pytest

from tests.services.indexing.pipeline.samples import drawn_pdf, read


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
