"""What a Word document keeps in parts of their own: notes, headers, diagrams, charts, embedded documents."""

import base64
import quopri

import pytest

from tests.services.indexing.pipeline.samples import (
    WORD,
    Part,
    paragraph,
    pdf,
    relationships,
    word_archive,
    word_body,
    word_document,
    word_package,
    word_text,
    zipped,
)

DRAWING = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
DIAGRAM = f'xmlns:dgm="http://schemas.openxmlformats.org/drawingml/2006/diagram" {DRAWING}'
CHART = f'xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" {DRAWING}'
CHART_EX = f'xmlns:cx="http://schemas.microsoft.com/office/drawing/2014/chartex" {DRAWING}'


def part(kind: str, content: str, key: str = "") -> Part:
    key = key or kind
    return Part(key, kind, f"word/{key}.xml", content)


def notes(kind: str, *entries: str) -> Part:
    inner = "".join(
        f'<w:{kind} w:id="{number}" {entry}</w:{kind}>' if entry.startswith("w:type") else
        f'<w:{kind} w:id="{number}">{entry}</w:{kind}>'
        for number, entry in enumerate(entries)
    )  # fmt: skip
    return part(f"{kind}s", f"<w:notes {WORD}>{inner}</w:notes>")


# --- notes


def test_notes_and_comments_come_after_the_text() -> None:
    separator = f'w:type="separator">{paragraph("a line")}'
    content = word_package(
        paragraph("Granite."),
        notes("comment", paragraph("A comment.") + paragraph("Its end.")),
        notes("endnote", paragraph("An endnote.")),
        notes("footnote", separator, paragraph("A footnote.")),
    )
    assert word_text(content) == "Granite.\n\nA footnote.\n\nAn endnote.\n\nA comment.\n\nIts end."


def test_notes_of_deleted_text_are_left_out() -> None:
    reference = '<w:r><w:footnoteReference w:id="{}"/></w:r>'
    body = (
        f"<w:p><w:r><w:t>Granite.</w:t></w:r><w:del>{reference.format(0)}</w:del>"
        f"<w:moveFrom>{reference.format(1)}</w:moveFrom><w:moveTo>{reference.format(1)}</w:moveTo></w:p>"
    )
    assert word_text(word_package(body, notes("footnote", paragraph("gone"), paragraph("moved")))) == (
        "Granite.\n\nmoved"
    )


def test_a_chart_in_a_note_is_the_notes_own() -> None:
    title = f"<c:chartSpace {CHART}><a:p><a:r><a:t>Trade</a:t></a:r></a:p></c:chartSpace>"
    note = word_body('<w:footnote><w:p><c:chart r:id="own"/></w:p></w:footnote>')
    files = {
        "word/document.xml": word_body(paragraph("Granite.")),
        "word/footnotes.xml": note,
        "word/_rels/footnotes.xml.rels": relationships(("own", "chart", "chart.xml")),
        "word/chart.xml": title,
    }
    assert word_text(zipped(files)) == "Granite.\n\nTrade"


# --- headers and footers


def test_headers_and_footers_are_read_once_and_last() -> None:
    section = "<w:sectPr>{}</w:sectPr>"
    first = '<w:footerReference r:id="foot"/><w:headerReference r:id="head"/><w:headerReference r:id="none"/>'
    second = '<w:headerReference r:id="same"/><w:headerReference r:id="head"/><w:headerReference r:id="other"/>'
    body = f"<w:p><w:pPr>{section.format(first)}</w:pPr><w:r><w:t>One.</w:t></w:r></w:p>{paragraph('Two.')}"
    content = word_package(
        body + section.format(second),
        part("header", word_body(paragraph("Title")), "head"),
        part("header", word_body(paragraph("Title")), "same"),
        part("header", word_body(paragraph("Other title")), "other"),
        part("footer", word_body(paragraph("Page 1")), "foot"),
    )
    assert word_text(content) == "One.\n\nTwo.\n\nTitle\n\nOther title\n\nPage 1"


def test_a_damaged_header_loses_nothing_else() -> None:
    body = paragraph("One.") + '<w:sectPr><w:headerReference r:id="head"/><w:footerReference r:id="foot"/></w:sectPr>'
    content = word_package(
        body, part("header", "<w:hdr", "head"), part("footer", word_body(paragraph("Page 1")), "foot")
    )
    assert word_text(content) == "One.\n\nPage 1"


# --- diagrams and charts


def test_diagrams_are_read_from_the_top() -> None:
    nodes = "".join(
        f'<dgm:pt modelId="{key}"><dgm:t><a:p><a:r><a:t>{text}</a:t></a:r></a:p></dgm:t></dgm:pt>'
        for key, text in (("4", "leaf"), ("0", ""), ("2", "second"), ("1", "first"), ("9", "apart"))
    )
    links = "".join(
        f'<dgm:cxn srcId="{source}" destId="{target}" srcOrd="{order}" {kind}/>'
        for source, target, order, kind in (
            *(("0", "2", "1", ""), ("0", "1", "0", ""), ("1", "4", "0", ""), ("4", "0", "x", "")),
            ("9", "8", "0", 'type="presOf"'),
        )
    )
    data = f"<dgm:dataModel {DIAGRAM}><dgm:ptLst>{nodes}</dgm:ptLst><dgm:cxnLst>{links}</dgm:cxnLst></dgm:dataModel>"
    drawing = '<w:p><w:r><w:drawing><dgm:relIds r:dm="data"/></w:drawing></w:r></w:p>'
    content = word_package(paragraph("Before.") + drawing * 2 + paragraph("After."), part("diagramData", data, "data"))
    assert word_text(content) == "Before.\n\napart\nleaf\nfirst\nsecond\n\nAfter."
    in_order = content_of(data.replace('<dgm:cxn srcId="4" destId="0" srcOrd="x" />', ""))
    assert word_text(in_order) == "first\nleaf\nsecond\napart"


def content_of(data: str) -> bytes:
    drawing = '<w:p><w:r><w:drawing><dgm:relIds r:dm="data"/></w:drawing></w:r></w:p>'
    return word_package(drawing, part("diagramData", data, "data"))


def test_charts_say_their_titles_and_names() -> None:
    rich = "<a:p><a:r><a:t>{}</a:t></a:r><a:r><a:t>{}</a:t></a:r></a:p>"
    cache = '<c:strRef><c:f>Sheet!A1</c:f><c:strCache><c:pt idx="0"><c:v>{}</c:v></c:pt></c:strCache></c:strRef>'
    series = f"<c:ser><c:tx>{cache.format('Imports')}</c:tx><c:cat>{cache.format('March')}</c:cat></c:ser>"
    numbers = "<c:val><c:numCache><c:pt><c:v>42</c:v></c:pt></c:numCache></c:val>"
    chart = f"<c:chartSpace {CHART}><c:title>{rich.format('Trade ', '1887')}</c:title>{series * 2}{numbers}"
    newer = (
        f'<cx:chartSpace {CHART_EX}><cx:strDim type="cat"><cx:f>A1</cx:f><cx:lvl><cx:pt idx="0">April</cx:pt></cx:lvl>'
        "</cx:strDim><cx:title><cx:tx><cx:txData><cx:v>Newer</cx:v></cx:txData></cx:tx></cx:title></cx:chartSpace>"
    )
    extended = '<cx:chart xmlns:cx="http://schemas.microsoft.com/office/drawing/2014/chartex" r:id="newer"/>'
    body = f'<w:p><w:r><w:drawing><c:chart r:id="chart"/></w:drawing><w:drawing>{extended}</w:drawing></w:r></w:p>'
    content = word_package(body, part("chart", f"{chart}</c:chartSpace>", "chart"), part("chartEx", newer, "newer"))
    assert word_text(content) == "Trade 1887\nImports\nMarch\nApril\nNewer"


@pytest.mark.parametrize("element", ['<dgm:relIds r:dm="x"/>', '<c:chart r:id="x"/>', '<w:altChunk r:id="x"/>'])
@pytest.mark.parametrize("content", [None, "", "<?xml version='1.0'?><a", "\0\1\2"])
def test_parts_that_are_missing_or_damaged_lose_nothing_else(element: str, content: str | None) -> None:
    parts = [] if content is None else [Part("x", "chart", "word/x", content)]
    assert word_text(word_package(f"<w:p>{element}</w:p>{paragraph('End.')}", *parts)) == "End."


# --- embedded documents

HTML = "<html><body><h1>Walls</h1><p>Größe of <b>granite</b></p></body></html>"
MHT = (
    'MIME-Version: 1.0\r\nContent-Type: multipart/related;\r\n type="text/html"; boundary="=_x"\r\n\r\n'
    "--=_x\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n"
    '--=_x\r\nContent-Type: text/html; charset="utf-8"\r\nContent-Transfer-Encoding: {}\r\n\r\n{}\r\n--=_x--\r\n'
)
ALTERNATIVES = (
    "Content-Type: multipart/alternative; boundary=a\n\n"
    "--a\nContent-Type: text/plain\n\nplain\n--a\nContent-Type: text/html\n\n<p>Walls</p>\n--a--\n--a\nafter"
)


def chunk(content: bytes | str, content_type: str, path: str = "word/chunk.dat") -> str:
    embedded = Part("x", "aFChunk", path, content, content_type)
    body = paragraph("Before.") + '<w:altChunk r:id="x"/>' + paragraph("After.")
    before, found, after = word_text(word_package(body, embedded)).partition("Before.")[2].partition("After.")
    assert found
    assert not after
    return before.strip()


@pytest.mark.parametrize(
    ("content", "content_type", "expected"),
    [
        (HTML, "text/html", "Walls\nGröße of granite"),
        ("<p>One</p>", "application/xhtml+xml", "One"),
        ("One < two", "text/plain", "One < two"),
        ("Größe".encode("utf-16"), "text/plain", "Größe"),
        (word_archive(word_body(paragraph("Inner."))), "application/octet-stream", "Inner."),
        (MHT.format("quoted-printable", quopri.encodestring(HTML.encode()).decode()), "message/rfc822",
         "Walls\nGröße of granite"),
        (MHT.format("base64", base64.encodebytes(HTML.encode()).decode()), "message/rfc822",
         "Walls\nGröße of granite"),
        (MHT.format("8bit", HTML).replace("utf-8", "unheard"), "message/rfc822", "Walls\nGröße of granite"),
        (ALTERNATIVES, "multipart/related", "Walls"),
        (ALTERNATIVES.replace("text/html", "image/png"), "multipart/related", "plain"),
        (MHT.format("base64", "%").replace("text/html;", "image/png;"), "message/rfc822", ""),
        ("{\\rtf1 Granite}", "application/rtf", "Granite"),
        (b"PK\x03\x04 no archive", WORD, ""),
        (b"PK\x05\x06" + bytes(18), "application/zip", ""),
        (bytes(range(256)), "text/plain", ""),
        (pdf("Granite."), "application/pdf", ""),
        ("  ", "text/plain", ""),
    ],
)  # fmt: skip
def test_embedded_documents_are_read_in_place(content: bytes | str, content_type: str, expected: str) -> None:
    assert chunk(content, content_type) == expected


def test_whole_documents_in_documents_are_read() -> None:
    assert chunk(word_document(), "application/octet-stream").startswith("Harbour report\nGranite")


def test_documents_in_documents_end_somewhere() -> None:
    content = word_archive(word_body(paragraph("Level 0.")))
    for level in range(1, 6):
        embedded = Part("x", "aFChunk", "word/x.docx", content)
        content = word_package(f'{paragraph(f"Level {level}.")}<w:altChunk r:id="x"/>', embedded)
    assert word_text(content) == "Level 5.\n\nLevel 4.\n\nLevel 3."
