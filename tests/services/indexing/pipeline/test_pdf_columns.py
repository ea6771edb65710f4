"""PDF pages with columns that were drawn across, line by line."""

import random
from pathlib import Path

import pytest

from services.indexing.pipeline.formats.pdf.characters import Box
from services.indexing.pipeline.formats.pdf.columns import Segment, _regions
from tests.services.indexing.pipeline.samples import drawn_pdf, read

WORDS = ["granite", "harbour", "walls", "stand", "today", "after", "storms", "from", "eastern", "coasts", "ships"]


def prose(seed: int, lines: int = 14) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=5)) for _ in range(lines)]


def across(*columns: list[str], title: str = "", shift: int = 0) -> str:
    """Draws columns line by line, each so much lower than the one before."""
    places = "".join(
        f"1 0 0 1 {30 + 190 * column} {700 - 12 * line - shift * column} Tm ({text}) Tj "
        for line, row in enumerate(zip(*columns, strict=True))
        for column, text in enumerate(row)
    )
    return f"BT /F 8 Tf 1 0 0 1 30 730 Tm ({title}) Tj {places} ET"


@pytest.mark.parametrize("shift", [0, 2, 5])
@pytest.mark.parametrize("count", [2, 3])
def test_columns_are_read_one_after_the_other(tmp_path: Path, count: int, shift: int) -> None:
    columns = [prose(seed) for seed in range(count)]
    title = "The harbour, its walls and everything that the storms of many years have left of them to be seen today"
    extracted = read(tmp_path, drawn_pdf(across(*columns, title=title, shift=shift)))
    assert " ".join(extracted.text.split()) == " ".join([title, *(line for column in columns for line in column)])


def test_a_table_is_read_row_by_row(tmp_path: Path) -> None:
    rows = [(f"ship {number}", f"{number * 7}", f"{number * 11}.5") for number in range(14)]
    extracted = read(tmp_path, drawn_pdf(across(*[list(column) for column in zip(*rows, strict=True)])))
    assert " ".join(extracted.text.split()) == " ".join(" ".join(row) for row in rows)


def test_words_cut_at_the_end_of_a_column_are_made_whole(tmp_path: Path) -> None:
    left, right = prose(1), prose(2)
    left[-1], right[0] = "granite harbour walls are extra-", "ordinary granite harbour walls"
    assert "extraordinary" in read(tmp_path, drawn_pdf(across(left, right))).text


def test_nothing_is_lost_whatever_the_places() -> None:
    chance = random.Random(7)
    for _ in range(200):
        segments = []
        for start in range(chance.randrange(8, 80)):
            left, bottom = chance.choice([0, 200, 400, 50]), chance.randrange(0, 700)
            box = Box(left, bottom, left + chance.randrange(1, 250), bottom + 10)
            segments.append(Segment(start * 40, start * 40 + 39, box))
        found = [segment for region in _regions(segments, 4) for segment in region]
        assert sorted(found) == sorted(segments)
