"""Numbers and bullets of lists and headings, as Word shows them."""

import time

import pytest

from services.indexing.pipeline.formats.word.number_formats import shown
from tests.services.indexing.pipeline.samples import WORD, Part, word_package, word_text


def level(number: int, text: str, number_format: str = "decimal", extra: str = "", start: int | None = 1) -> str:
    begin = "" if start is None else f'<w:start w:val="{start}"/>'
    return (
        f'<w:lvl w:ilvl="{number}">{begin}<w:numFmt w:val="{number_format}"/>{extra}<w:lvlText w:val="{text}"/></w:lvl>'
    )


OUTLINE = level(0, "%1") + level(1, "%1.%2") + level(2, "%1.%2.%3")
INSTANCE = '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'


def item(text: str, depth: int = 0, number: int = 1) -> str:
    place = f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{number}"/></w:numPr>'
    return f"<w:p><w:pPr>{place}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def styled(text: str, style: str, properties: str = "") -> str:
    return f'<w:p><w:pPr><w:pStyle w:val="{style}"/>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>'


def numbered(body: str, levels: str = OUTLINE, instances: str = INSTANCE, styles: str = "", more: str = "") -> str:
    numbering = f'<w:numbering {WORD}><w:abstractNum w:abstractNumId="0">{levels}</w:abstractNum>{more}{instances}'
    return word_text(
        word_package(
            body,
            Part("n", "numbering", "word/numbering.xml", f"{numbering}</w:numbering>"),
            Part("s", "styles", "word/styles.xml", f"<w:styles {WORD}>{styles}</w:styles>"),
        )
    )


def style(name: str, properties: str, based_on: str = "", kind: str = "paragraph", known_as: str = "") -> str:
    parent = f'<w:basedOn w:val="{based_on}"/>' if based_on else ""
    return (
        f'<w:style w:type="{kind}" w:styleId="{name}"><w:name w:val="{known_as or name}"/>{parent}'
        f"<w:pPr>{properties}</w:pPr></w:style>"
    )


def test_levels_count_below_each_other() -> None:
    body = item("a") + item("b", 1) + item("c", 2) + item("d", 2) + item("e", 1) + item("f") + item("g", 1)
    assert numbered(body) == "1 a\n1.1 b\n1.1.1 c\n1.1.2 d\n1.2 e\n2 f\n2.1 g"


def test_a_level_without_the_one_above_begins_as_if_that_were_there() -> None:
    assert numbered(item("a", 1) + item("b")) == "1.1 a\n1 b"


def test_headings_get_the_numbers_of_their_styles() -> None:
    levels = level(0, "Part %1:", "upperRoman", '<w:pStyle w:val="H1"/>') + level(
        1, "%1.%2", extra='<w:pStyle w:val="H2"/><w:isLgl/>'
    )
    styles = (
        style("H1", '<w:numPr><w:numId w:val="1"/></w:numPr>', known_as="heading 1")
        + style("H2", '<w:numPr><w:ilvl w:val="1"/></w:numPr>', "H1", known_as="heading 2")
        + style("Mine", "", "H2")
    )
    body = styled("Walls", "H1") + styled("Granite", "H2") + styled("Marble", "Mine") + styled("Roofs", "H1")
    text = numbered(body, levels, styles=styles)
    assert text == "Part I: Walls\n\n\n1.1 Granite\n\n\n1.2 Marble\n\n\nPart II: Roofs"
    without = styled("Annex", "H1", '<w:numPr><w:numId w:val="0"/></w:numPr>')
    assert numbered(without, levels, styles=styles) == "Annex"


def test_instances_share_a_count_unless_they_start_their_own() -> None:
    own = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="7"/></w:lvlOverride>'
    other = f'<w:lvlOverride w:ilvl="0">{level(0, "%1)", "lowerLetter")}</w:lvlOverride>'
    instances = INSTANCE + "".join(
        f'<w:num w:numId="{number}"><w:abstractNumId w:val="0"/>{override}</w:num>'
        for number, override in ((2, ""), (3, own), (4, other))
    )
    body = "".join(item("x", number=number) for number in (1, 2, 3, 3, 1, 4))
    assert numbered(body, instances=instances) == "1 x\n2 x\n7 x\n8 x\n9 x\nj) x"


def test_levels_start_and_restart_where_they_say() -> None:
    never = level(0, "%1.", start=None) + level(1, "%2)", extra='<w:lvlRestart w:val="0"/>', start=5)
    body = item("a") + item("b", 1) + item("c") + item("d", 1)
    assert numbered(body, never) == "0. a\n5) b\n1. c\n6) d"
    after_first = level(0, "%1") + level(1, "%2") + level(2, "(%3)", extra='<w:lvlRestart w:val="1"/>')
    body = item("a") + item("b", 1) + item("c", 2) + item("d", 1) + item("e", 2) + item("f") + item("g", 2)
    assert numbered(body, after_first) == "1 a\n1 b\n(1) c\n2 d\n(2) e\n2 f\n(1) g"


def test_a_style_of_lists_leads_to_the_levels() -> None:
    linked = '<w:abstractNum w:abstractNumId="1"><w:numStyleLink w:val="List"/></w:abstractNum>'
    instances = INSTANCE + '<w:num w:numId="2"><w:abstractNumId w:val="1"/></w:num>'
    styles = style("List", '<w:numPr><w:numId w:val="1"/></w:numPr>', kind="numbering")
    assert numbered(item("a", number=2) + item("b", 1, 2), instances=instances, styles=styles, more=linked) == (
        "1 a\n1.1 b"
    )


def bullet(text: str, font: str) -> str:
    return level(0, text, "bullet").replace("</w:lvl>", f'<w:rPr><w:rFonts w:ascii="{font}"/></w:rPr></w:lvl>')


@pytest.mark.parametrize(
    ("text", "font", "expected"),
    [
        ("\uf0b7", "Symbol", "•"),
        ("\uf0a7", "Wingdings", "▪"),
        ("\uf0fc", "Wingdings", "✓"),
        ("ü", "Wingdings", "✓"),
        ("\uf076", "Unheard", "•"),
        ("o", "Courier New", "◦"),
        ("–", "Calibri", "–"),
    ],
)
def test_bullets_are_characters_everybody_has(text: str, font: str, expected: str) -> None:
    assert numbered(item("item"), bullet(text, font)) == f"{expected} item"


def test_pictures_as_bullets_are_bullets_and_empty_texts_nothing() -> None:
    assert numbered(item("item"), level(0, "", "bullet", '<w:lvlPicBulletId w:val="0"/>')) == "• item"
    assert numbered(item("a") + item("b"), level(0, "")) == "a\nb"
    assert numbered(item("a"), level(0, "%1)", extra='<w:suff w:val="nothing"/>')) == "1)a"


def test_custom_formats_are_read() -> None:
    custom = (
        '<w:lvl w:ilvl="0"><w:start w:val="9"/><mc:AlternateContent '
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        '<mc:Choice><w:numFmt w:val="custom" w:format="001, 002, 003, ..."/></mc:Choice>'
        '<mc:Fallback><w:numFmt w:val="decimal"/></mc:Fallback></mc:AlternateContent><w:lvlText w:val="§ %1"/></w:lvl>'
    )
    assert numbered(item("a") + item("b"), custom) == "§ 009 a\n§ 010 b"


@pytest.mark.parametrize(
    ("number_format", "number", "expected"),
    [
        ("upperRoman", 1994, "MCMXCIV"),
        ("lowerRoman", 4, "iv"),
        ("upperLetter", 26, "Z"),
        ("lowerLetter", 28, "bb"),
        ("decimalZero", 7, "07"),
        ("ordinal", 22, "22nd"),
        ("ordinal", 113, "113th"),
        ("cardinalText", 121, "One hundred twenty-one"),
        ("ordinalText", 2020, "Two thousand twentieth"),
        ("ordinalText", 92, "Ninety-second"),
        ("hex", 255, "FF"),
        ("chicago", 6, "††"),
        ("decimalEnclosedCircle", 20, "⑳"),
        ("decimalEnclosedCircle", 21, "21"),
        ("numberInDash", 3, "- 3 -"),
        ("chineseCounting", 12, "十二"),
        ("chineseCounting", 105, "一百零五"),
        ("chineseCountingThousand", 2010, "二千零一十"),
        ("japaneseCounting", 1110, "千百十"),
        ("ideographDigital", 20, "二〇"),
        ("koreanDigital", 10, "일영"),
        ("russianLower", 2, "б"),
        ("none", 5, ""),
        ("unheard", 5, "5"),
        ("upperRoman", 0, "0"),
        ("upperRoman", 2**31 - 1, "2147483647"),
    ],
)
def test_numbers_are_shown_in_their_format(number_format: str, number: int, expected: str) -> None:
    assert shown(number, number_format) == expected


def test_paragraphs_without_text_count_and_say_nothing() -> None:
    assert numbered(item("a") + item("") + item("c")) == "1 a\n3 c"


def test_nonsense_in_lists_is_no_number() -> None:
    nonsense = level(0, "%1").replace('w:ilvl="0"', 'w:ilvl="x"') + '<w:lvl w:ilvl="1"/>'
    instances = INSTANCE + '<w:num w:numId="2"><w:abstractNumId w:val="9"/></w:num>'
    loop = style("A", "", "B") + style("B", "", "A")
    body = item("a") + item("b", 1) + item("c", number=2) + item("d", number=3) + styled("e", "A")
    assert numbered(body, nonsense, instances, loop) == "a\nb\nc\nd\n\ne"


def test_hostile_lists_cost_little() -> None:
    long = level(0, "%1" * 100_000, "upperRoman", start=2_000_000_000)
    chain = "".join(style(f"S{number}", "", f"S{number + 1}") for number in range(1000))
    began = time.process_time()
    text = numbered(item("a") * 200 + styled("b", "S0"), long, styles=chain)
    assert len(text) < 1_000_000
    assert time.process_time() - began < 1.5
