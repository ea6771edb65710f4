"""OpenDocument texts, spreadsheets and presentations; hostile and damaged ones refused."""

import io
import time
import zipfile
from pathlib import Path

import pytest

from services.indexing.pipeline.documents import ODP, ODS, ODT
from services.indexing.pipeline.errors import CorruptDocument, DocumentEncrypted, DocumentTooLarge
from services.indexing.pipeline.formats import limits, opendocument
from tests.services.indexing.pipeline.office_samples import OPEN_DOCUMENT, open_document
from tests.services.indexing.pipeline.samples import MANY, entity_bomb, read, zipped

P = "<text:p>{}</text:p>"


def cells(*texts: str) -> str:
    return "".join(f"<table:table-cell>{P.format(text) if text else ''}</table:table-cell>" for text in texts)


def test_a_text_keeps_headings_lists_tables_and_notes(tmp_path: Path) -> None:
    body = (
        '<text:h text:outline-level="1">Walls</text:h>'
        + P.format('Granite<text:s text:c="2"/>built\n the <text:span>wall</text:span>.<text:line-break/>It stands.')
        + f"<text:list><text:list-item>{P.format('one')}</text:list-item><text:list-item>{P.format('two')}"
        + '</text:list-item></text:list><text:h text:outline-level="2">Costs</text:h><table:table>'
        + f"<table:table-row>{cells('year', 'ships')}</table:table-row>"
        + f"<table:table-row>{cells('1887', 'forty')}</table:table-row></table:table>"
        + P.format(f"Noted<text:note><text:note-body>{P.format('A note.')}</text:note-body></text:note> here.")
        + "<text:tracked-changes><text:changed-region><text:deletion><text:p>gone</text:p></text:deletion>"
        + "</text:changed-region></text:tracked-changes>"
    )
    styles = f"<style:master-page><style:header>{P.format('Top')}</style:header></style:master-page>" * 2
    meta = "<dc:title>Harbour report</dc:title>"
    extracted = read(tmp_path, open_document("text", body, styles=styles, meta=meta), "report.odt")
    assert (extracted.content_type, extracted.title) == (ODT, "Harbour report")
    assert extracted.text == (
        "Walls\nGranite  built the wall.\nIt stands.\n\none\ntwo\n\n\nCosts\nyear\tships\n1887\tforty\n\n"
        "A note.\n\nNoted here.\n\nTop"
    )
    headings = [(one.level, one.text) for one in extracted.structure.headings]
    assert headings == [(1, "Walls"), (2, "Costs")]
    assert extracted.structure.tables[0].header == "year\tships"


def test_sheets_are_sections_and_what_repeats_costs_little(tmp_path: Path) -> None:
    empty = '<table:table-row table:number-rows-repeated="1048570"><table:table-cell/></table:table-row>'
    wide = '<table:table-cell table:number-columns-repeated="16000"/>'
    sheet = (
        '<table:table table:name="Ships">'
        f"<table:table-row>{cells('name', '', 'tonnes')}{wide}</table:table-row>"
        f'<table:table-row table:number-rows-repeated="2">{cells("Endeavour", "40")}</table:table-row>{empty}'
        f"<table:table-row>{cells('last')}</table:table-row></table:table>"
    )
    began = time.process_time()
    extracted = read(tmp_path, open_document("spreadsheet", sheet + sheet.replace("Ships", "Again")), "ships.ods")
    assert time.process_time() - began < 0.5
    assert extracted.content_type == ODS
    assert extracted.text.startswith("name\ttonnes\nEndeavour\t40\nEndeavour\t40\nlast\n\n\nname")
    assert [section.location for section in extracted.structure.sections] == [{"sheet": "Ships"}, {"sheet": "Again"}]
    assert list(extracted.structure.tables[0].numbers) == [1, 2, 3, 1_048_574]


def test_slides_are_sections_and_begin_with_their_titles(tmp_path: Path) -> None:
    title = f'<draw:frame presentation:class="title"><draw:text-box>{P.format("Walls")}</draw:text-box></draw:frame>'
    notes = f"<presentation:notes>{P.format('Say it slowly.')}</presentation:notes>"
    body = f"<draw:page>{title}{P.format('Granite.')}{notes}</draw:page><draw:page>{P.format('End.')}</draw:page>"
    extracted = read(tmp_path, open_document("presentation", body), "plans.odp")
    slides = [(one.location, extracted.text[one.start : one.end]) for one in extracted.structure.sections]
    assert extracted.content_type == ODP
    assert slides == [({"slide": 1}, "Walls\nGranite.\n\nSay it slowly."), ({"slide": 2}, "End.")]


def test_protected_and_damaged_files_say_so() -> None:
    encrypted = open_document("text", P.format("x"), manifest="<manifest:encryption-data/>")
    with pytest.raises(DocumentEncrypted):
        opendocument.extract(memoryview(encrypted), ODT, max_characters=MANY)
    damaged = open_document("text", P.format("Granite.") + "<text:p")
    extracted = opendocument.extract(memoryview(damaged), ODT, max_characters=MANY)
    assert (extracted.text, extracted.partly_read) == ("Granite.", (opendocument.DAMAGED_CONTENT,))
    for content in (open_document("text", "<text:p"), zipped({"mimetype": ODT}), encrypted[:300]):
        with pytest.raises(CorruptDocument):
            opendocument.extract(memoryview(content), ODT, max_characters=MANY)


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = entity_bomb() + f"<office:document-content {OPEN_DOCUMENT}><text:p>&j;</text:p></office:document-content>"
    with pytest.raises(CorruptDocument, match="refused for safety"):
        opendocument.extract(memoryview(zipped({"mimetype": ODT, "content.xml": bomb})), ODT, max_characters=MANY)
    row = f'<table:table-row table:number-rows-repeated="1000000">{cells("x" * 1000)}</table:table-row>'
    repeated = open_document("spreadsheet", f"<table:table>{row}</table:table>")
    with pytest.raises(DocumentTooLarge):
        opendocument.extract(memoryview(repeated), ODS, max_characters=50_000)
    monkeypatch.setattr(limits, "MAX_PART_BYTES", 10_000)
    with pytest.raises(DocumentTooLarge, match="unpacks to more"):
        opendocument.extract(memoryview(open_document("text", P.format("x" * 20_000))), ODT, max_characters=MANY)


def test_tables_charts_and_formulas_that_are_objects_are_read_once() -> None:
    place = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
    frame = f'<draw:frame><draw:object {place} xlink:href="./{{}}"/></draw:frame>'
    body = P.format("Costs" + frame.format("Object 1") + frame.format("Object%202") + frame.format("Object 1"))
    body += frame.format("Object 3") + frame.format("missing") + frame.format("..")
    rows = "".join(
        f"<table:table-row>{cells(*row)}</table:table-row>" for row in (("year", "ships"), ("1887", "forty"))
    )
    of_charts = 'xmlns:chart="urn:oasis:names:tc:opendocument:xmlns:chart:1.0"'
    chart = f"<chart:title {of_charts}>{P.format('Ships')}</chart:title>"
    formula = '<math xmlns="http://www.w3.org/1998/Math/MathML"><annotation>a over b</annotation></math>'
    objects = {
        "Object 1/content.xml": f"<office:document-content {OPEN_DOCUMENT}>{rows}</office:document-content>",
        "Object 2/content.xml": f"<office:document-content {OPEN_DOCUMENT}>{chart}</office:document-content>",
        "Object 3/content.xml": formula,
    }
    buffer = io.BytesIO(open_document("text", body))
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, content in objects.items():
            archive.writestr(name, content)
    extracted = opendocument.extract(memoryview(buffer.getvalue()), ODT, max_characters=MANY)
    assert extracted.text == "year\tships\n1887\tforty\nShips\n\nCosts\n\na over b"
