"""Where the parts of a Word document are: where the package says, in every variant of the standard."""

from pathlib import Path

import pytest

from services.indexing.pipeline.documents import DOCX
from services.indexing.pipeline.errors import CorruptDocument, DocumentTooLarge, UnsupportedContentType
from services.indexing.pipeline.formats import limits
from services.indexing.pipeline.formats.ooxml import package
from tests.services.indexing.pipeline.samples import (
    OFFICE,
    PACKAGE,
    WORD_TYPE,
    Part,
    content_types,
    entity_bomb,
    paragraph,
    read,
    relationships,
    word_archive,
    word_body,
    word_package,
    word_text,
    zipped,
)

STRICT = "http://purl.oclc.org/ooxml"
MACROS = "application/vnd.ms-word.document.macroEnabled.main+xml"
TEMPLATE = "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml"
VISIO = "application/vnd.ms-visio.drawing.main+xml"


@pytest.mark.parametrize("target", ["word/document2.xml", "/word/document2.xml", "./word/../Word/Document2.xml"])
@pytest.mark.parametrize("content_type", [WORD_TYPE, MACROS, TEMPLATE])
def test_the_main_part_is_where_the_package_says(target: str, content_type: str) -> None:
    content = zipped(
        {
            "word/document2.xml": word_body(paragraph("Granite.")),
            "_rels/.rels": relationships(("main", "officeDocument", target)),
            "[Content_Types].xml": content_types({"word/document2.xml": content_type}),
        }
    )
    assert word_text(content) == "Granite."


@pytest.mark.parametrize("target", ["notes/foot.xml", "/Main/notes/foot.xml", "../main/notes/foot.xml"])
def test_other_parts_are_where_the_main_part_says(target: str) -> None:
    notes = word_body(f"<w:footnote>{paragraph('A note.')}</w:footnote>")
    content = zipped(
        {
            "main/text.xml": word_body(paragraph("Granite.")),
            "main/notes/foot.xml": notes,
            "_rels/.rels": relationships(("main", "officeDocument", "main/text.xml")),
            "main/_rels/text.xml.rels": relationships(("notes", "footnotes", target)),
            "[Content_Types].xml": content_types({"main/text.xml": WORD_TYPE}),
        }
    )
    assert word_text(content) == "Granite.\n\nA note."


def test_strict_documents_with_other_prefixes_are_read() -> None:
    heading = '<h:style h:type="paragraph" h:styleId="H"><h:name h:val="heading 1"/></h:style>'
    main = (
        f'<h:document xmlns:h="{STRICT}/wordprocessingml/main" xmlns:x="{STRICT}/officeDocument/math" '
        f'xmlns:q="{STRICT}/officeDocument/relationships"><h:body>'
        '<h:p><h:pPr><h:pStyle h:val="H"/></h:pPr><h:r><h:t>Walls</h:t></h:r></h:p>'
        "<h:p><x:oMath><x:sSup><x:e><x:r><x:t>a</x:t></x:r></x:e><x:sup><x:r><x:t>2</x:t></x:r></x:sup></x:sSup>"
        '</x:oMath></h:p><h:sectPr><h:footerReference q:id="foot"/></h:sectPr></h:body></h:document>'
    )
    footer = f'<ftr xmlns="{STRICT}/wordprocessingml/main"><p><r><t>Footer</t></r></p></ftr>'
    related = relationships(("foot", "footer", "footer1.xml"), ("styles", "styles", "styles.xml"))
    strict = f"{STRICT}/officeDocument/relationships"
    content = zipped(
        {
            "word/document.xml": main,
            "word/footer1.xml": footer,
            "word/styles.xml": f'<h:styles xmlns:h="{STRICT}/wordprocessingml/main">{heading}</h:styles>',
            "_rels/.rels": relationships(("main", "officeDocument", "word/document.xml")).replace(OFFICE, strict),
            "word/_rels/document.xml.rels": related.replace(OFFICE, strict),
            "[Content_Types].xml": content_types({"word/document.xml": WORD_TYPE}),
        }
    )
    assert word_text(content) == "Walls\na^2\n\nFooter"


def test_names_of_parts_ignore_case_and_escapes() -> None:
    content = zipped(
        {
            "Word/My Document.XML": word_body(paragraph("Granite.")),
            "_RELS/.rels": relationships(("main", "officeDocument", "word/my%20document.xml")),
            "[content_types].XML": content_types({"word/MY%20document.xml": WORD_TYPE}),
        }
    )
    assert word_text(content) == "Granite."


def test_the_content_type_of_an_extension_counts() -> None:
    types = f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="XML" ContentType="{WORD_TYPE}"/></Types>'
    main = relationships(("main", "officeDocument", "text.xml"))
    content = {"text.xml": word_body(paragraph("Granite.")), "_rels/.rels": main, "[Content_Types].xml": types}
    assert word_text(zipped(content)) == "Granite."


def test_a_package_whose_main_part_is_no_document_is_none(tmp_path: Path) -> None:
    drawing = {
        "visio/document.xml": "<document/>",
        "word/document.xml": word_body(paragraph("Granite.")),
        "_rels/.rels": relationships(("main", "officeDocument", "visio/document.xml")),
        "[Content_Types].xml": content_types({"visio/document.xml": VISIO, "word/document.xml": WORD_TYPE}),
    }
    notes, other = {"notes.txt": "Granite."}, {"other.xml": word_body("")}
    for files, kind in ((drawing, "Drawings"), (notes, "an archive"), (other, "an archive")):
        with pytest.raises(UnsupportedContentType, match=kind):
            read(tmp_path, zipped(files), "report.docx")


@pytest.mark.parametrize("broken", ["<Relationships", "", "\0"])
def test_the_usual_names_count_where_the_package_says_nothing(broken: str) -> None:
    notes = word_body(f"<w:endnote>{paragraph('A note.')}</w:endnote>")
    usual = {"word/document.xml": word_body(paragraph("Granite.")), "word/endnotes.xml": notes}
    assert word_text(zipped(usual)) == "Granite.\n\nA note."
    damaged = dict.fromkeys(["_rels/.rels", "[Content_Types].xml", "word/_rels/document.xml.rels"], broken)
    assert word_text(zipped({**usual, **damaged})) == "Granite.\n\nA note."


def test_a_package_without_its_main_part_is_damaged(tmp_path: Path) -> None:
    content = {
        "_rels/.rels": relationships(("main", "officeDocument", "word/missing.xml")),
        "[Content_Types].xml": content_types({"word/missing.xml": WORD_TYPE}),
    }
    with pytest.raises(CorruptDocument, match="Word document is damaged"):
        read(tmp_path, zipped(content))


def test_nothing_outside_the_package_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.html"
    secret.write_text("<p>canary</p>", encoding="utf-8")
    target = f'Target="file://{secret}" TargetMode="External"'
    related = relationships(("chunk", "aFChunk", "")).replace('Target=""', target)
    content = {
        "word/document.xml": word_body(paragraph("Granite.") + '<w:altChunk r:id="chunk"/>'),
        "word/_rels/document.xml.rels": related,
    }
    assert word_text(zipped(content)) == "Granite."


@pytest.mark.parametrize("where", ["_rels/.rels", "[Content_Types].xml", "word/_rels/document.xml.rels"])
def test_declarations_in_lists_of_parts_are_refused(tmp_path: Path, where: str) -> None:
    entry = f"<Relationships xmlns='{PACKAGE}/relationships'><Relationship Id='{{}}'/></Relationships>"
    if where == "[Content_Types].xml":
        entry = f"<Types xmlns='{PACKAGE}/content-types'><Default Extension='{{}}'/></Types>"
    main = word_body(paragraph("Granite.") + '<w:altChunk r:id="chunk"/>')
    for identifier in ("a", "&j;"):
        with pytest.raises(CorruptDocument, match="refused for safety"):
            read(tmp_path, zipped({"word/document.xml": main, where: entity_bomb() + entry.format(identifier)}))


@pytest.mark.parametrize("kind", ["footnotes", "styles", "numbering", "comments"])
@pytest.mark.parametrize("damage", ["", "<w:", "no XML", "<a><b></a>"])
def test_a_damaged_part_does_not_lose_the_main_text(kind: str, damage: str) -> None:
    part = Part(kind, kind, f"word/{kind}.xml", damage)
    assert word_text(word_package(paragraph("Granite."), part)) == "Granite."


def test_a_damaged_part_is_read_up_to_the_damage() -> None:
    notes = word_body(f"<w:footnote>{paragraph('A note.')}</w:footnote>").partition("</w:footnote>")[0]
    part = Part("notes", "footnotes", "word/footnotes.xml", notes)
    assert word_text(word_package(paragraph("Granite."), part)) == "Granite.\n\nA note."


def test_a_part_whose_data_is_damaged_does_not_lose_the_main_text() -> None:
    notes = Part("notes", "footnotes", "word/footnotes.xml", word_body("<w:footnote/>" * 500))
    content = bytearray(word_package(paragraph("Granite."), notes))
    start = content.index(b"word/footnotes.xml") + len("word/footnotes.xml")
    content[start : start + 20] = b"\xff" * 20
    assert word_text(bytes(content)) == "Granite."


def test_a_damaged_main_part_is_damage(tmp_path: Path) -> None:
    main = word_body(paragraph("Granite.")).replace("</w:body>", "")
    with pytest.raises(CorruptDocument, match="Word document is damaged"):
        read(tmp_path, word_archive(main))


def test_a_damaged_title_is_none(tmp_path: Path) -> None:
    content = {"word/document.xml": word_body(paragraph("Granite.")), "docProps/core.xml": "<title"}
    extracted = read(tmp_path, zipped(content))
    assert (extracted.content_type, extracted.title) == (DOCX, None)


def test_parts_and_what_they_unpack_to_are_limited_together(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = [Part(f"c{number}", "aFChunk", f"c{number}.txt", "x" * 1000, "text/plain") for number in range(20)]
    body = "".join(f'<w:altChunk r:id="{part.id}"/>' for part in chunks)
    content = word_package(body, *chunks)
    assert word_text(content).count("x" * 1000) == 20
    for limit, most in (("MAX_PARTS", 15), ("MAX_BYTES", 10_000)):
        with monkeypatch.context() as patch, pytest.raises(DocumentTooLarge):
            patch.setattr(limits, limit, most)
            word_text(content)


def test_lists_of_parts_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "_DIRECTORY_BYTES", 1000)
    content = {"word/document.xml": word_body(""), "_rels/.rels": relationships() + " " * 2000}
    with pytest.raises(DocumentTooLarge):
        read(tmp_path, zipped(content))


def test_an_archive_names_its_parts_as_it_likes() -> None:
    buffer = word_archive(word_body(paragraph("Granite.")))
    assert word_text(buffer.replace(b"word/document.xml", b"word\\document.xml")) == "Granite."
