"""Spreadsheets: every cell that has a value, as its format shows it; hostile and damaged ones refused."""

import time
from pathlib import Path

import pytest

from services.indexing.pipeline.documents import XLSX, Extracted
from services.indexing.pipeline.errors import CorruptDocument, DocumentTooLarge
from services.indexing.pipeline.formats import limits, xlsx
from services.indexing.pipeline.formats.sheet.number_formats import Shown, known, of_code, written
from tests.services.indexing.pipeline.office_samples import SHEET, SLIDE, inline_row, workbook
from tests.services.indexing.pipeline.samples import MANY, entity_bomb, read, relationships


def extract(content: bytes) -> Extracted:
    return xlsx.extract(memoryview(content), max_characters=MANY)


def test_sheets_are_sections_and_rows_keep_their_numbers(tmp_path: Path) -> None:
    content = workbook(
        {
            "Ships": '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="C1" t="s"><v>1</v></c></row>'
            '<row r="7"><c r="A7" t="s"><v>2</v></c><c r="B7"/><c r="C7"><v>40</v></c></row>',
            "Notes": inline_row(3, "Granite  built", "the wall."),
        },
        strings=["Name", "Tonnes", "<si><r><t>Endea</t></r><r><t>vour</t></r><rPh><t>reading</t></rPh></si>"],
    )
    extracted = read(tmp_path, content, "ships.xlsx")
    assert (extracted.content_type, extracted.text) == (
        XLSX,
        "Name\tTonnes\nEndeavour\t40\n\n\nGranite built\tthe wall.",
    )
    assert [section.location for section in extracted.structure.sections] == [{"sheet": "Ships"}, {"sheet": "Notes"}]
    ships, notes = extracted.structure.tables
    assert (ships.header, list(ships.numbers), list(ships.starts)) == ("Name\tTonnes", [1, 7], [0, 12])
    assert list(notes.numbers) == [3]


def test_values_are_read_as_their_cells_show_them() -> None:
    styles = (
        '<numFmts><numFmt numFmtId="170" formatCode="[$-409]d\\-mmm\\-yy;@"/></numFmts>'
        '<cellStyleXfs><xf numFmtId="9"/></cellStyleXfs><cellXfs><xf numFmtId="0"/><xf numFmtId="170"/>'
        '<xf numFmtId="22"/><xf numFmtId="10"/><xf numFmtId="46"/></cellXfs>'
    )
    cells = (
        '<c><v>0.30000000000000004</v></c><c s="1"><v>45000</v></c><c s="2"><v>45000.5</v></c>'
        '<c s="3"><v>0.0725</v></c><c s="4"><v>1.5</v></c><c t="b"><v>1</v></c><c t="e"><v>#REF!</v></c>'
        '<c t="str"><f>A1</f><v>told_x000D_</v></c>'
        '<c t="d"><v>2024-02-29</v></c><c s="99"><v>12345678901234567890</v></c><c t="s"><v>5</v></c><c><v>no</v></c>'
    )
    content = workbook({"A": f"<row>{cells}</row>"}, styles=styles)
    assert extract(content).text == (
        "0.3\t2023-03-15\t2023-03-15 12:00\t7.25%\t36:00:00\tTRUE\ttold\t2024-02-29\t12345678901234567890\tno"
    )


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("General", Shown.NUMBER),
        ('#,##0.00 "days"', Shown.NUMBER),
        ("[Red]0.0%", Shown.PERCENTAGE),
        ("yyyy\\-mm\\-dd", Shown.DATE),
        ("mmmm yyyy", Shown.DATE),
        ("h:mm AM/PM", Shown.TIME),
        ("dd.mm.yyyy hh:mm;@", Shown.MOMENT),
        ("[h]:mm", Shown.DURATION),
        ("0.00;[Red]-d", Shown.NUMBER),
    ],
)
def test_formats_tell_what_a_number_is(code: str, shown: Shown) -> None:
    assert of_code(code) is shown


def test_dates_of_both_epochs_and_the_day_that_never_was() -> None:
    assert written("1", Shown.DATE, from_1904=False) == "1900-01-01"
    assert written("59", Shown.DATE, from_1904=False) == "1900-02-28"
    assert written("61", Shown.DATE, from_1904=False) == "1900-03-01"
    assert written("1", Shown.DATE, from_1904=True) == "1904-01-02"
    assert written("0.5", Shown.MOMENT, from_1904=False) == "12:00"
    assert written("-3", Shown.DATE, from_1904=False) == "-3"
    assert written("1e300", Shown.DURATION, from_1904=False) == "1e+300"
    assert known(14) is Shown.DATE


def test_a_cell_in_the_last_row_costs_nothing() -> None:
    content = workbook({"Sparse": inline_row(1, "start") + inline_row(1_048_576, "end")})
    began = time.process_time()
    extracted = extract(content)
    assert time.process_time() - began < 0.5
    assert (extracted.text, list(extracted.structure.tables[0].numbers)) == ("start\nend", [1, 1_048_576])


def test_comments_text_boxes_and_charts_come_after_the_rows() -> None:
    drawing = f'<x {SLIDE}><a:p><a:r><a:t>A box.</a:t></a:r></a:p><c:chart r:id="c"/></x>'
    chart = f"<c:chartSpace {SLIDE}><a:p><a:r><a:t>Tonnes a year</a:t></a:r></a:p></c:chartSpace>"
    content = workbook(
        {"Ships": inline_row(1, "Endeavour")},
        parts={
            "xl/worksheets/_rels/sheet1.xml.rels": relationships(
                ("d", "drawing", "/xl/drawing.xml"), ("k", "comments", "/xl/comments.xml")
            ),
            "xl/drawing.xml": drawing,
            "xl/_rels/drawing.xml.rels": relationships(("c", "chart", "chart.xml")),
            "xl/chart.xml": chart,
            "xl/comments.xml": f"<comments {SHEET}><comment><text><r><t>A rem</t></r><r><t>ark.</t></r></text>"
            "</comment></comments>",
        },
    )
    extracted = extract(content)
    assert extracted.text == "Endeavour\n\n\nA box.\n\nTonnes a year\n\nA remark."
    assert [section.location for section in extracted.structure.sections] == [{"sheet": "Ships"}, {"sheet": "Ships"}]


def test_titles_above_the_names_of_columns_are_no_header() -> None:
    rows = inline_row(1, "Ships of 1887") + inline_row(3, "Name", "Tonnes") + inline_row(4, "Endeavour", "40")
    assert extract(workbook({"A": rows})).structure.tables[0].header == "Name\tTonnes"
    numbers = inline_row(1, "1887", "40") + inline_row(2, "Name", "Tonnes")
    assert extract(workbook({"A": numbers})).structure.tables[0].header == ""


def test_a_damaged_sheet_is_read_as_far_as_it_goes_and_told() -> None:
    whole, damaged = inline_row(1, "Granite"), inline_row(1, "Basalt") + "<row><c"
    extracted = extract(workbook({"A": whole, "B": damaged}))
    assert (extracted.text, extracted.partly_read) == ("Granite\n\n\nBasalt", (xlsx.DAMAGED_SHEET,))
    with pytest.raises(CorruptDocument, match="spreadsheet is damaged"):
        extract(workbook({"B": damaged}))


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = entity_bomb() + f"<worksheet {SHEET}>&j;</worksheet>"
    with pytest.raises(CorruptDocument, match="refused for safety"):
        extract(workbook({"A": ""}, parts={"xl/worksheets/sheet1.xml": bomb}))
    shared = "".join('<row><c t="s"><v>0</v></c></row>' for _ in range(200))
    with pytest.raises(DocumentTooLarge):
        xlsx.extract(memoryview(workbook({"A": shared}, strings=["x" * 1000])), max_characters=100_000)
    with pytest.raises(DocumentTooLarge):
        xlsx.extract(memoryview(workbook({"A": ""}, strings=["x" * 1000] * 200)), max_characters=100_000)
    monkeypatch.setattr(limits, "MAX_PART_BYTES", 10_000)
    with pytest.raises(DocumentTooLarge, match="unpacks to more"):
        extract(workbook({"A": inline_row(1, "x" * 20_000)}))
