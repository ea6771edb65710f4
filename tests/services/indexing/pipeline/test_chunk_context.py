"""Chunks say where they are, and are searched with what they say nothing of: title, headings, header of a table."""

import time
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.indexing.pipeline.chunk_context import SHARE
from services.indexing.pipeline.chunking import CHARACTERS, chunk
from services.indexing.pipeline.documents import Chunk, Extracted, Heading, Section, Structure
from tests.services.indexing.pipeline.office_samples import inline_row, presentation, shape, workbook
from tests.services.indexing.pipeline.samples import pdf, read

PIECES = ["Heading", "word " * 40, "x" * 300, "日本語" * 90]
LONG = "Granite from the eastern face built the harbour wall. " * 30


def chunks_of(extracted: Extracted) -> list[Chunk]:
    chunks = chunk(
        extracted.text,
        content_type=extracted.content_type,
        pages=extracted.pages,
        structure=extracted.structure,
        title=extracted.title,
    )
    assert all(extracted.text[piece.start : piece.end] == piece.text for piece in chunks)
    return chunks


def test_a_chunk_knows_the_headings_it_is_under(tmp_path: Path) -> None:
    page = (
        f"<html><head><title>Harbour report</title></head><body><h1>Walls</h1><p>{LONG}</p><h2>Granite</h2>"
        f"<p>{LONG}</p><h2>Basalt</h2><p>{LONG}</p><h1>Ships</h1><p>{LONG}</p></body></html>"
    )
    extracted = read(tmp_path, page.encode(), "a.html")
    chunks = chunks_of(extracted)
    paths = list(dict.fromkeys(tuple((piece.location or {}).get("headings", ())) for piece in chunks))
    assert paths == [("Walls",), ("Walls", "Granite"), ("Walls", "Basalt"), ("Ships",)]
    first, second = chunks[:2]
    assert first.text.startswith("Walls\n")
    assert first.context == "Harbour report"  # it shows the heading itself
    assert second.context == "Harbour report › Walls"
    granite = next(piece for piece in chunks if piece.location == {"headings": ["Walls", "Granite"]})
    assert granite.text.startswith("Granite\n")
    assert granite.context == "Harbour report › Walls"
    assert granite.searched == f"Harbour report › Walls\n\n{granite.text}"


def test_what_is_embedded_fits_the_model(tmp_path: Path) -> None:
    headings = "".join(f"<h{level}>{f'Heading number {level} ' * 6}</h{level}>" for level in range(1, 7))
    page = f"<html><title>{'Report ' * 40}</title><body>{headings}<p>{LONG * 3}</p></body></html>"
    chunks = chunks_of(read(tmp_path, page.encode(), "a.html"))
    assert len(chunks) > 5
    assert all(len(piece.context) <= CHARACTERS // SHARE for piece in chunks)
    assert all(len(piece.context) + len(piece.text) <= CHARACTERS for piece in chunks)
    assert "Heading number 6" in chunks[-1].context
    assert "Report" not in chunks[-1].context  # the outermost gives way


def test_text_without_structure_has_no_context(tmp_path: Path) -> None:
    chunks = chunks_of(read(tmp_path, LONG.encode(), "a.txt"))
    assert [(piece.location, piece.context) for piece in chunks] == [(None, "")] * len(chunks)


def test_a_chunk_stays_in_its_slide_and_its_sheet(tmp_path: Path) -> None:
    slides = presentation(
        shape("Walls", placeholder="title") + shape("Granite."), shape("Basalt."), shape(LONG) + shape("End.")
    )
    chunks = chunks_of(read(tmp_path, slides))
    located = [piece.location for piece in chunks]
    assert located[:2] == [{"slide": 1, "headings": ["Walls"]}, {"slide": 2}]
    assert located[2:] == [{"slide": 3}] * (len(chunks) - 2)
    assert len(chunks) > 4
    assert [piece.context for piece in chunks[:2]] == ["Harbour plans", "Harbour plans"]


def test_rows_are_numbered_and_keep_the_header(tmp_path: Path) -> None:
    rows = [inline_row(1, "Name", "Home port")]
    rows += [inline_row(number, f"Endeavour the {number}th", "Cape Town in the far south") for number in range(5, 200)]
    chunks = chunks_of(read(tmp_path, workbook({"Ships": "".join(rows), "Q3": inline_row(9, "alone")})))
    assert chunks[0].location == {"sheet": "Ships", "rows": (1, _last_row(chunks[0]))}
    assert chunks[0].context == "Ships"
    for before, piece in pairwise(chunks[:-1]):
        assert before.location is not None
        assert piece.location == {"sheet": "Ships", "rows": (before.location["rows"][1] + 1, _last_row(piece))}
        assert piece.context == "Ships\nName\tHome port"
    assert (chunks[-1].location, chunks[-1].context) == ({"sheet": "Q3", "rows": (9, 9)}, "Q3")


def _last_row(piece: Chunk) -> int:
    last = piece.text.splitlines()[-1].split("\t")[0]
    return int(last.removeprefix("Endeavour the ").removesuffix("th"))


def test_a_table_in_a_page_keeps_its_header(tmp_path: Path) -> None:
    rows = "".join(f"<tr><td>Endeavour the {number}th<td>Cape Town in the far south" for number in range(60))
    page = f"<html><body><p>{LONG}<table><tr><th>Name<th>Home port{rows}</table><p>{LONG}"
    chunks = chunks_of(read(tmp_path, page.encode(), "a.html"))
    tables = [piece for piece in chunks if "Endeavour" in piece.text]
    assert len(tables) > 3
    assert "Name\tHome port" in tables[0].text
    assert [piece.context for piece in tables[1:]] == ["Name\tHome port"] * (len(tables) - 1)
    assert {piece.context for piece in chunks if piece not in tables} == {""}


def test_a_table_in_markdown_keeps_its_header(tmp_path: Path) -> None:
    rows = "".join(f"| Endeavour the {number}th | Cape Town in the far south |\n" for number in range(60))
    text = f"# Ships\n\nA | b\n\n| Name | Home port |\n| :--- | ---: |\n{rows}\nGranite. {LONG}"
    chunks = chunks_of(read(tmp_path, text.encode(), "a.md"))
    tables = [piece for piece in chunks if "Endeavour" in piece.text]
    assert len(tables) > 3
    assert [piece.context.splitlines()[-1:] for piece in tables[1:]] == [["Name\tHome port"]] * (len(tables) - 1)
    assert all("Home port" not in piece.context for piece in chunks if piece not in tables)
    assert "Home port" not in tables[0].context


def test_pages_lines_and_records_are_told(tmp_path: Path) -> None:
    pages = chunks_of(read(tmp_path, pdf("Granite.", "", "Basalt. " * 200)))
    assert pages[0].location == {"page": 1}
    assert pages[-1].location == {"page": 3}
    code = "".join(f"def wall_{number}():\n    return {number}\n\n\n" for number in range(50))
    lines = [
        piece.location["lines"] for piece in chunks_of(read(tmp_path, code.encode(), "walls.py")) if piece.location
    ]
    assert lines[0][0] == 1
    assert lines[-1][1] == 198
    records = "\n".join(f'{{"name": "ship {number}", "port": "Cape Town"}}' for number in range(1, 101))
    last = chunks_of(read(tmp_path, records.encode(), "ships.jsonl"))[-1].location
    assert last is not None
    assert last["rows"][1] == 100


def test_a_slide_is_under_no_heading_of_another_one() -> None:
    text = "One\nGranite.\n\n\nBasalt."
    structure = Structure((Section(0, 12, {"slide": 1}), Section(15, 22, {"slide": 2})), (), (Heading(0, 1, "One"),))
    first, second = chunk(text, content_type="text/plain", structure=structure)
    assert (first.location, second.location) == ({"slide": 1, "headings": ["One"]}, {"slide": 2})
    carried = Structure((Section(0, 12, {"cell": 1}), Section(15, 22, {"cell": 2})), (), (Heading(0, 1, "One"),))
    assert chunk(text, content_type="text/plain", structure=carried)[1].location == {"cell": 2, "headings": ["One"]}


def test_thousands_of_headings_and_sections_cost_no_square_of_them() -> None:
    text = "".join(f"Heading {number}\nx\n\n\n" for number in range(10_000))
    starts = [place for place in range(len(text)) if text.startswith("Heading", place)]
    headings = tuple(Heading(start, 1 + index % 6, f"Heading {index}") for index, start in enumerate(starts))
    sections = tuple(Section(start, end, {"slide": index}) for index, (start, end) in enumerate(pairwise(starts)))
    began = time.process_time()
    assert len(chunk(text, content_type="text/plain", structure=Structure(sections, (), headings))) == 10_000
    assert time.process_time() - began < 5


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.booleans()), max_size=30))
def test_whatever_the_structure_no_word_is_lost_and_all_fits(pieces: list[tuple[str, bool]]) -> None:
    text = ""
    sections: list[Section] = []
    headings: list[Heading] = []
    for number, (piece, apart) in enumerate(pieces):
        if apart:
            sections.append(Section(len(text), len(text) + len(piece), {"sheet": f"Sheet {number}"}))
        if piece == "Heading":
            headings.append(Heading(len(text), number % 4 + 1, f"Heading {'long ' * number}"))
        text += f"{piece}\n\n"
    structure = Structure(tuple(sections), (), tuple(headings))
    chunks = chunk(text, content_type="text/plain", structure=structure, title="A title", capacity=400)
    assert "".join("".join(found.text.split()) for found in chunks) == "".join(text.split())
    assert all(len(found.text) + len(found.context) <= 400 for found in chunks)
    for found in chunks:
        inside = [one for one in sections if one.start <= found.start < one.end]
        assert all(found.end <= one.end for one in inside)
        assert (found.location or {}).get("sheet") == (inside[0].location["sheet"] if inside else None)
