"""HTML: what is visible, in order, with headings set off; whatever the markup."""

from pathlib import Path

import pytest

from services.indexing.pipeline.documents import HTML, PLAIN_TEXT, XML
from services.indexing.pipeline.errors import EmptyDocument
from services.indexing.pipeline.formats.claimed_types import Hints
from services.indexing.pipeline.formats.type_detection import text_type
from tests.services.indexing.pipeline.samples import read

PAGE = """<!DOCTYPE html><html><head><title> Old &amp; new
 harbour </title><style>p { color: red }</style><script>var hidden = 1</script></head>
<body><nav>Home Contact</nav><p>Before all.</p><h1>The <b>wall</b></h1><p>Granite<br>holds &lt;firm&gt;.</p>
<h2></h2><ul><li>one<li>two</ul><table><tr><th>year</th><td>1887</td></tr></table><div><h2>Later</h2>Loose text</div>
<template>unused</template></body></html>"""


def test_visible_text_is_read_in_order_and_headings_stand_off(tmp_path: Path) -> None:
    extracted = read(tmp_path, PAGE.encode(), "page.html")
    assert extracted.content_type == HTML
    assert extracted.title == "Old & new harbour"
    assert extracted.text.startswith("Before all.\n\n\nThe wall\nGranite\nholds <firm>.")
    assert extracted.text.endswith("year\t1887\n\n\nLater\nLoose text")
    assert "one" in extracted.text
    assert not {"hidden", "color", "Home", "unused"} & set(extracted.text.split())


@pytest.mark.parametrize("name", ["page.txt", "page.pdf", "page"])
def test_a_page_under_another_name_is_still_html(tmp_path: Path, name: str) -> None:
    extracted = read(tmp_path, f"<!-- made by hand -->\n{PAGE}".encode(), name, declared_type="application/pdf")
    assert extracted.content_type == HTML


def test_a_fragment_is_html_when_its_name_says_so(tmp_path: Path) -> None:
    assert read(tmp_path, b"<p>Granite</p>", "part.htm").text == "Granite"
    assert read(tmp_path, b"<p>Granite</p>", "part.txt").text == "<p>Granite</p>"


@pytest.mark.parametrize("declared", ["iso-8859-1", "windows-1252", "utf-8"])
def test_the_declared_encoding_is_used(tmp_path: Path, declared: str) -> None:
    page = f'<html><head><meta charset="{declared}"></head><body>Straße “quoted”</body></html>'
    encoding = "utf-8" if declared == "utf-8" else "cp1252"
    assert read(tmp_path, page.encode(encoding), "p.html").text == "Straße “quoted”"


def test_an_unknown_declared_encoding_is_ignored(tmp_path: Path) -> None:
    page = '<html><meta charset="klingon"><body>Größe und Straße, überall schöne Häuser</body></html>'
    assert read(tmp_path, page.encode("cp1252"), "p.html").text == "Größe und Straße, überall schöne Häuser"


def test_a_page_without_words_is_empty(tmp_path: Path) -> None:
    with pytest.raises(EmptyDocument):
        read(tmp_path, b"<html><body><img src=x><script>1</script></body></html>")


@pytest.mark.parametrize(
    "tag",
    [
        "<div>",
        "<h1>",
        "<h1>x",
        "<b>",
        "<table>",
        "<a href=x>",
        "<ul><li>",
        "<!--",
        "<p class='",
        "<noscript>",
        "<nav>",
        "<select><option>",
        "<label>",
    ],
)
def test_endless_nesting_is_read_in_linear_time(tmp_path: Path, tag: str) -> None:
    page = "<html><body><p>Granite</p>" + tag * 50_000 + "end"
    assert read(tmp_path, page.encode(), "deep.html").text.startswith("Granite")


@pytest.mark.parametrize("start", ["<!---->" * 500, "<!-- " * 800, " " * 4000, "<?xml " * 600, "<p " * 1300])
def test_telling_html_from_text_takes_no_time(start: str) -> None:
    assert text_type(f"{start} Granite", Hints.of("page.txt", "")) in {PLAIN_TEXT, XML}


LONG = "The wall of the harbour was built of granite from the eastern face of the quarry. " * 4


def test_text_for_readers_without_scripts_is_read_when_there_is_no_other(tmp_path: Path) -> None:
    page = "<html><head><noscript><link rel=x></noscript><title>Wall</title></head><body>{}</body></html>"
    notice = "<noscript><p>Please enable JavaScript.</p></noscript>"
    extracted = read(tmp_path, page.format(notice).encode())
    assert (extracted.text, extracted.title) == ("Please enable JavaScript.", "Wall")
    assert read(tmp_path, page.format(f"<p>One</p>{notice}<p>Two</p>").encode()).text == "One\n\nTwo"
    assert (
        read(tmp_path, page.format(f"<p>One</p><noscript>{LONG}</noscript>").encode()).text == f"One\n\n{LONG}".strip()
    )


@pytest.mark.parametrize("page", ["<noscript><div id=x></noscript>{}", "<noscript>{}", "<p>Head</p><noscript><b>{}"])
def test_an_element_that_is_not_closed_hides_no_text(tmp_path: Path, page: str) -> None:
    content = page.format("<h1>The wall</h1><p>Granite holds.</p>")
    for beginning in ("<html><body>", "<html><head></head>", "<!doctype html>"):
        assert read(tmp_path, (beginning + content).encode()).text.endswith("The wall\nGranite holds.")


def test_scripts_that_write_such_elements_hide_no_text(tmp_path: Path) -> None:
    page = "<html><body><script>a='<noscript>'</script><p>One</p><script>b='</noscript>'</script><p>Two</p>"
    assert "Two" in read(tmp_path, page.encode()).text


def test_navigation_is_left_out_unless_the_page_is_in_it(tmp_path: Path) -> None:
    page = f"<html><body><nav>Home</nav><div role='navigation'>Contact</div><p>{LONG}</p></body></html>"
    assert read(tmp_path, page.encode()).text == LONG.strip()
    assert read(tmp_path, f"<html><body><nav>Home<h1>Wall</h1><p>{LONG}</p>".encode()).text.endswith(LONG.strip())


def test_the_words_of_forms_and_of_what_opens_are_read(tmp_path: Path) -> None:
    page = (
        "<html><body><form><fieldset><legend>Order</legend><label for=a>Stone</label>"
        "<select><optgroup label=x><option>Granite<option selected>Slate</select>"
        "<textarea>grey &amp; cut</textarea><button>Send</button></fieldset></form>"
        "<details><summary>Prices</summary>On request</details><dialog>Thank you</dialog>"
        "<figure><img src=x><figcaption>The wall</figcaption></figure></body></html>"
    )
    lines = [line.strip() for line in read(tmp_path, page.encode()).text.splitlines() if line.strip()]
    assert lines == [
        *("Order", "Stone", "Granite", "Slate", "grey & cut", "Send"),
        *("Prices", "On request", "Thank you", "The wall"),
    ]


def test_white_space_around_headings_takes_no_time(tmp_path: Path) -> None:
    page = "<html><body><pre>" + " " * 200_000 + "</pre><h1>Granite</h1>" + " " * 200_000
    assert read(tmp_path, page.encode()).text == "Granite"


def test_private_use_characters_cannot_fake_headings(tmp_path: Path) -> None:
    extracted = read(tmp_path, "<html><body>a\ue000b&#xE000;c&#xE001;d</body></html>".encode())
    assert "\ue000" not in extracted.text
    assert "\ue001" not in extracted.text


SHIPS = "<tr><th>Ship</th><th>Home port</th></tr>" + "<tr><td>Fram</td><td>Oslo</td></tr>" * 3
ROWS = "Ship\tHome port" + "\nFram\tOslo" * 3


@pytest.mark.parametrize(
    ("page", "text", "tables"),
    [
        ("<p>Before<table>{}</table>After", "Before\n{}\nAfter", [(6, "Ship\tHome port")]),
        ("<TABLE class='a'><caption>Ships</caption>{}</TABLE><p>After", "Ships\n{}\n\nAfter", [(0, "Ship\tHome port")]),
        ("<table>{0}</table><table><tr><td>1<td>2</table>", "{0}\n\n1\t2", [(0, "Ship\tHome port"), (45, "")]),
        ("<table><tr><td><table>{}</table><td>beside</table>", "{}\tbeside", [(0, "Ship\tHome port")]),
        ("<table>{}<p>never ended", "never ended\n\n{}", []),
        ("ended</table> twice</table>", "ended twice", []),
        ("<h2>Ships</h2><table>{}</table>", "Ships\n{}", [(6, "Ship\tHome port")]),
    ],
)
def test_a_table_knows_its_header(tmp_path: Path, page: str, text: str, tables: list[tuple[int, str]]) -> None:
    extracted = read(tmp_path, f"<html><body>{page.format(SHIPS)}".encode(), "page.html")
    assert extracted.text == text.format(ROWS)
    found = extracted.structure.tables
    assert [(one.start, one.header) for one in found] == tables


def test_many_tables_take_linear_time(tmp_path: Path) -> None:
    page = f"<html><body>{'<table><tr><td>a<td>b</table>' * 20_000}"
    assert len(read(tmp_path, page.encode(), "page.html").structure.tables) == 20_000
