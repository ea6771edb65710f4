"""Rich text: what a reader sees, in every encoding it may be written in; damaged files as far as they go."""

from pathlib import Path

import pytest

from services.indexing.pipeline.documents import RTF, Extracted
from services.indexing.pipeline.errors import CorruptDocument, DocumentTooLarge, EmptyDocument
from services.indexing.pipeline.formats import rtf
from tests.services.indexing.pipeline.samples import MANY, read

HEAD = (
    r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset204 Arial Cyr;}{\f2\fcharset128 MS;}}"
    r"{\stylesheet{\s1 heading 1;}{\s2 Heading 2;}}{\colortbl;\red0\green0\blue0;}"
    r"{\info{\title Harbour report}{\author Nobody}}{\*\generator Writer;}"
)


def extract(body: str, *, max_characters: int = MANY) -> Extracted:
    return rtf.extract(memoryview(f"{HEAD}{body}}}".encode("latin-1")), max_characters=max_characters)


def test_paragraphs_headings_and_tables_keep_their_shape(tmp_path: Path) -> None:
    body = (
        r"\pard\s1 Walls\par\pard Granite\tab built \b the\b0  wall.\line It stands.\par"
        r"\trowd\pard\intbl year\cell ships\cell\row\trowd\pard\intbl 1887\par B.C.\cell forty\cell\row"
        r"\pard\outlinelevel1 Costs\par\pard Closing \{words\}.\par"
    )
    extracted = read(tmp_path, f"{HEAD}{body}}}".encode(), "report.rtf")
    assert (extracted.content_type, extracted.title, extracted.partly_read) == (RTF, "Harbour report", ())
    assert extracted.text == (
        "Walls\nGranite\tbuilt the wall.\nIt stands.\n\nyear\tships\n1887 B.C.\tforty\n\n\nCosts\nClosing {words}."
    )
    assert [(one.level, one.text) for one in extracted.structure.headings] == [(1, "Walls"), (2, "Costs")]
    assert extracted.structure.tables[0].header == "year\tships"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (r"caf\'e9", "café"),
        (r"{\f1 \'cf\'f0\'e8\'e2\'e5\'f2} \'e9", "Привет é"),
        (r"{\f2 \'89\'d4\'8d\'f6}", "花錯"),
        (r"\u1055?\u1088?\u1080?", "При"),
        (r"\uc2\u1055\'8f\'8fx{\uc0\u1088 y}", "Пxрy"),
        (r"\u-10179?\u-8704?", "\U0001f600"),
        (r"a\~b\_c\-d \emdash  \lquote x\rquote", "a\u00a0b-cd — ‘x’"),
        (r"gr" "\r\n" r"anite", "granite"),
        (r"x{\v hidden}{\*\unknown gone}{\pict 89504e47}{\bin3 \}}y", "xy"),
        (r"{\field{\*\fldinst HYPERLINK there}{\fldrslt shown}}", "shown"),
        (r"text{\footnote A note.}{\header Top} goes on", "text goes on\n\nA note.\n\nTop"),
    ],
)
def test_characters_are_read_as_they_are_shown(written: str, shown: str) -> None:
    assert extract(written).text == shown


def test_a_damaged_file_is_read_as_far_as_it_goes_and_told() -> None:
    content = f"{HEAD} Granite.\\par {{\\b Bas".encode()
    extracted = rtf.extract(memoryview(content), max_characters=MANY)
    assert (extracted.text, extracted.partly_read) == ("Granite.\n\nBas", (rtf.DAMAGED_CONTENT,))
    with pytest.raises(EmptyDocument):
        extract("")


def test_bombs_are_refused() -> None:
    with pytest.raises(CorruptDocument, match="rich text file is damaged"):
        extract("{" * 100_000)
    with pytest.raises(DocumentTooLarge):
        extract("granite " * 10_000, max_characters=10_000)
    assert extract(r"x\bin2147483647 y").partly_read == (rtf.DAMAGED_CONTENT,)
