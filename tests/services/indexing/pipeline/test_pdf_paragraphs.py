"""Lines of a PDF: paragraphs, words that line ends cut in two, and scripts without spaces."""

import pytest

from services.indexing.pipeline.formats.pdf.paragraphs import reflow


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


@pytest.mark.parametrize(
    ("lines", "joined"),
    [
        ("The quarry had a well\ufffeknown harbour", "The quarry had a well-known harbour"),
        ("A state-of-the\ufffeart harbour wall", "A state-of-the-art harbour wall"),
        ("A co-owner signed; the co\ufffeowner left", "A co-owner signed; the co-owner left"),
        ("A long while, a term; in the long\ufffeterm", "A long while, a term; in the long-term"),
        ("Named after Jean\ufffePaul of the quarry", "Named after Jean-Paul of the quarry"),
        ("Built between 1887-\n1890 in the east", "Built between 1887-1890 in the east"),
        ("Between two-\nand three-day journeys", "Between two- and three-day journeys"),
        ("This is page -16-\ncontinued elsewhere", "This is page -16- continued elsewhere"),
    ],
)
def test_a_hyphen_of_the_words_own_stays(lines: str, joined: str) -> None:
    assert reflow(lines) == joined


@pytest.mark.parametrize(
    ("lines", "joined"),
    [
        ("Under the stand, to under\ufffestand", "Under the stand, to understand"),
        (
            "An extra, an ordinary, an extraordinary extra\ufffeordinary",
            "An extra, an ordinary, an extraordinary extraordinary",
        ),
        ("In the form of it, to in\ufffeform us", "In the form of it, to inform us"),
    ],
)
def test_a_hyphen_of_the_line_goes(lines: str, joined: str) -> None:
    assert reflow(lines) == joined


def test_scripts_without_spaces_are_joined_without_any() -> None:
    assert reflow("报告内容的真\r\n实、准确、完整") == "报告内容的真实、准确、完整"
    assert reflow("ภาษาไทยไม่มี\nช่องว่างระหว่าง") == "ภาษาไทยไม่มีช่องว่างระหว่าง"
    assert reflow("한국어 문장은\n단어를 띄어 쓴다") == "한국어 문장은 단어를 띄어 쓴다"
    assert reflow("于二零一八年\nQuarry 报告") == "于二零一八年 Quarry 报告"


def test_vertical_text_is_one_line() -> None:
    assert reflow("\r\n".join("青色の灯火の項を除き")) == "青色の灯火の項を除き"
    assert reflow("中「\n含\nむ。\nを」\nに\n改") == "中「含む。を」に改"


def test_what_follows_a_superscript_is_no_line_of_its_own() -> None:
    assert reflow("Andreas Gal, Brendan Eich∗\r\n, Mike Shaver") == "Andreas Gal, Brendan Eich∗, Mike Shaver"


def test_blank_lines_end_a_paragraph() -> None:
    assert reflow("a line of text\n\nanother line ok") == "a line of text\nanother line ok"
    assert reflow(" \n ") == ""


def test_a_page_of_many_lines_takes_no_longer_per_line() -> None:
    assert len(reflow("extra-\nordinary\n" * 10_000)) == 10_000 * len("extraordinary ") - 1
