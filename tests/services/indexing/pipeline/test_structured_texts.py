"""Texts whose lines mean something: tables, JSON, notebooks, XML and source code."""

import json
from pathlib import Path

import pytest

from services.indexing.pipeline.documents import (
    CSV,
    JSON,
    JSON_LINES,
    NOTEBOOK,
    PLAIN_TEXT,
    SOURCE_CODE,
    TSV,
    XML,
)
from services.indexing.pipeline.errors import CorruptDocument, DocumentTooLarge
from services.indexing.pipeline.formats import delimited, json_values
from tests.services.indexing.pipeline.samples import entity_bomb, read

# --- tables


@pytest.mark.parametrize(
    ("name", "written", "content_type"),
    [
        ("a.csv", 'name,"where, when"\nEndeavour,"Cape\nTown"\n"Fram ""II""",Oslo\n', CSV),
        ("a.csv", 'name;"where, when"\r\nEndeavour;"Cape\nTown"\r\n"Fram ""II""";Oslo\r\n', CSV),
        ("a.tsv", 'name\twhere, when\nEndeavour\tCape Town\n"Fram ""II"""\tOslo', TSV),
    ],
)
def test_a_table_is_read_in_the_dialect_it_is_written_in(
    tmp_path: Path, name: str, written: str, content_type: str
) -> None:
    extracted = read(tmp_path, written.encode(), name)
    assert extracted.content_type == content_type
    assert extracted.text == 'name\twhere, when\nEndeavour\tCape Town\nFram "II"\tOslo'
    (table,) = extracted.structure.tables
    assert (table.header, list(table.numbers)) == ("name\twhere, when", [1, 2, 3])


def test_a_table_without_names_of_columns_has_no_header(tmp_path: Path) -> None:
    assert read(tmp_path, b"Endeavour,1764\nFram,1892\n", "a.csv").structure.tables[0].header == ""


def test_what_is_no_table_is_read_as_text(tmp_path: Path) -> None:
    for written in (b"One line.", b"Granite, basalt.\nAnd so on\n\nMore, of, it.", b"a\nb\nc\n"):
        assert read(tmp_path, written, "a.csv").content_type == PLAIN_TEXT


def test_a_quote_that_never_ends_loses_nothing(tmp_path: Path) -> None:
    written = "a,b\n" * 200 + '"open,c\n' + "granite,basalt\n" * 5000
    extracted = read(tmp_path, written.encode(), "a.csv")
    assert (extracted.text.count("granite"), extracted.partly_read) == (5000, (delimited.UNCLOSED_QUOTE,))
    for whole in ('a,b\n1,"x"\n', 'a,b\n1,"x"', "a,b\n1,2", 'a,b\n1,"x\ny"\n\n'):
        assert read(tmp_path, whole.encode(), "a.csv").partly_read == ()


# --- JSON


def test_values_stand_behind_their_names(tmp_path: Path) -> None:
    size = '{"length": 39.00, "crew": [{"as": "cook"}, {"as": null}]}'
    written = f'{{"name": "Fram", "size": {size}, "seen": [1, true], "e": {{}}}}'
    extracted = read(tmp_path, written.encode(), "a.json")
    assert extracted.content_type == JSON
    assert extracted.text == (
        "name: Fram\nsize:\n  length: 39.00\n  crew:\n    -\n      as: cook\n    -\n      as: null\nseen: 1, true\ne:"
    )


@pytest.mark.parametrize(
    ("name", "written", "content_type"),
    [
        ("a.json", '[{"n": "Fram"}, {"n": "Gauss", "n": 12345678901234567890}]', JSON),
        ("a.jsonl", '{"n": "Fram"}\n\n{"n": "Gauss", "n": 12345678901234567890}\n', JSON_LINES),
        ("a.json", '{"n": "Fram"}\n\n{"n": "Gauss", "n": 12345678901234567890}\n', JSON_LINES),
    ],
)
def test_records_have_numbers(tmp_path: Path, name: str, written: str, content_type: str) -> None:
    extracted = read(tmp_path, written.encode(), name)
    assert (extracted.content_type, extracted.text) == (content_type, "n: Fram\n\nn: Gauss\nn: 12345678901234567890")
    numbers = list(extracted.structure.tables[0].numbers)
    assert numbers == ([1, 2] if name == "a.json" and content_type == JSON else [1, 3])


@pytest.mark.parametrize(
    "written",
    [
        "Granite.",
        '// of the harbour\n{"a": "// no comment, ]", /* {{ */ "b": [1, 2,],}',
        '{\n"a": 1\n}\n{\n"b": 2\n}',
        "\N{ZERO WIDTH NO-BREAK SPACE}Granite [1].",
    ],
)
def test_what_is_no_json_is_read_as_text(tmp_path: Path, written: str) -> None:
    extracted = read(tmp_path, written.encode(), "a.json")
    assert (extracted.content_type, extracted.text) == (PLAIN_TEXT, written.removeprefix("\ufeff"))


def test_json_that_not_every_program_accepts_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, '\ufeff{"a": NaN, "b": "two\tlines\n"}'.encode(), "a.json").text == "a: NaN\nb: two\tlines"


@pytest.mark.parametrize(
    "written", ['{"a": 1', '{"a": NaN, b}', "[\n  {},\n  {},\n  {", '[{"a": "gra', "{'a': 1}", '/* {"a": "', "[1 /" * 9]
)
@pytest.mark.parametrize(("name", "kind"), [("a.json", "json"), ("a.jsonl", "json"), ("a.ipynb", "notebook")])
def test_json_that_begins_and_is_damaged_fails(tmp_path: Path, written: str, name: str, kind: str) -> None:
    if written[0] == "/":
        written = "[" + written
    with pytest.raises(CorruptDocument) as caught:
        read(tmp_path, written.encode(), name)
    assert caught.value.kind == kind


def test_a_damaged_record_is_shown_as_it_is_written(tmp_path: Path) -> None:
    written = '{"n": "Fram\u2028II"}\r\n{"n": "Gauss"}\n\n{"n": "Endea'
    for name in ("a.jsonl", "a.json"):
        extracted = read(tmp_path, written.encode(), name)
        assert (extracted.content_type, extracted.partly_read) == (JSON_LINES, (json_values.DAMAGED_RECORD,))
        assert extracted.text == 'n: Fram\nII\n\nn: Gauss\n\n{"n": "Endea'
        assert list(extracted.structure.tables[0].numbers) == [1, 2, 4]


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    for name, content in (("a.json", "[" * 200_000), ("a.json", '{"a":' * 200_000), ("a.xml", "<a>" * 1000)):
        with pytest.raises(CorruptDocument) as caught:
            read(tmp_path, content.encode(), name)
        assert caught.value.kind == "nested"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '{"a": ' + "9" * 20_000 + "}"),
        ("a.json", '["' + "x" * 20_000 + '"]'),
        ("a.csv", "a,b\n" * 9 + f"1,{'x' * 20_000}\n"),
        ("a.csv", "a,b\n" * 9 + '1,"' + "x\n" * 10_000),
        ("a.xml", f"<a>{'x' * 20_000}</a>"),
    ],
)
def test_one_huge_value_is_too_much_text(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(DocumentTooLarge):
        read(tmp_path, content.encode(), name, max_characters=10_000)


def test_nesting_costs_no_square_of_it(tmp_path: Path) -> None:
    deep = '{"a":' * 900 + "[1,[2]]" + "}" * 900
    assert len(read(tmp_path, deep.encode(), "a.json").text) < 30_000


# --- notebooks


def test_cells_are_sections_with_what_they_printed(tmp_path: Path) -> None:
    notebook = {
        "nbformat": 4,
        "metadata": {},
        "cells": [
            {"cell_type": "markdown", "source": ["# Walls\n", "Granite."]},
            {
                "cell_type": "code",
                "source": "print(1 + 1)",
                "outputs": [
                    {"output_type": "stream", "text": ["2\n"]},
                    {"output_type": "display_data", "data": {"text/plain": "<Figure>", "image/png": "iVBOR"}},
                    {"output_type": "error", "ename": "ValueError", "evalue": "no wall"},
                ],
            },
            {"cell_type": "markdown", "source": ""},
            "nonsense",
        ],
    }
    extracted = read(tmp_path, json.dumps(notebook).encode(), "a.ipynb")
    assert (extracted.content_type, extracted.title) == (NOTEBOOK, "Walls")
    sections = [(one.location, extracted.text[one.start : one.end]) for one in extracted.structure.sections]
    assert sections == [
        ({"cell": 1}, "# Walls\nGranite."),
        ({"cell": 2}, "print(1 + 1)\n\n2\n\n<Figure>\n\nValueError: no wall"),
    ]
    assert [one.text for one in extracted.structure.headings] == ["Walls"]
    old = {"nbformat": 3, "metadata": {}, "worksheets": [{"cells": [{"cell_type": "code", "input": "x = 1"}]}]}
    assert read(tmp_path, json.dumps(old).encode(), "old.ipynb").text == "x = 1"


# --- XML


def test_elements_are_lines_and_sentences_stay_whole(tmp_path: Path) -> None:
    written = (
        '<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE book SYSTEM "book.dtd"><book><title>Walls</title><!-- no -->'
        "<para>Granite <em>built</em> the\n wall.</para><ship name='Fram' year='1892'/>"
        "<b><c>one</c><c>two</c></b></book>"
    )
    extracted = read(tmp_path, written.encode(), "a.xml")
    assert (extracted.content_type, extracted.title) == (XML, "Walls")
    assert extracted.text == "Walls\n\nGranite built the wall.\n\nname: Fram, year: 1892\n\none\ntwo"


def test_entities_are_read_as_what_they_stand_for(tmp_path: Path) -> None:
    declared = '<!DOCTYPE a [<!ENTITY ship "Fram &#38;#38; <b>Gauss</b>">]><a>The &ship;&#x2e;</a>'
    assert read(tmp_path, declared.encode(), "a.xml").text == "The Fram & Gauss."
    of_html = "<a>Zo&euml;&nbsp;&LT;&amp;&lt;b>&notin;</a>"
    assert read(tmp_path, of_html.encode(), "a.xml").text == "Zoë <&<b>∉"
    elsewhere = '<!DOCTYPE a SYSTEM "a.dtd"><a>The &ship;</a>'
    assert read(tmp_path, elsewhere.encode(), "a.xml").text == "The &ship;"


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("<a><b>granite</a>", "xml"),
        ("<a><b>granite</b>", "xml"),
        ("<a>&unknown;</a>", "xml"),
        (f"{entity_bomb()}<a>&j; granite</a>", "unsafe"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "unsafe"),
        ('<!DOCTYPE a [<!ENTITY x "&x;">]><a>&x;</a>', "unsafe"),
    ],
)
def test_damaged_and_hostile_xml_fails(tmp_path: Path, written: str, kind: str) -> None:
    with pytest.raises(CorruptDocument) as caught:
        read(tmp_path, written.encode(), "a.xml")
    assert caught.value.kind == kind


def test_xml_without_text_is_shown_as_it_is_written(tmp_path: Path) -> None:
    extracted = read(tmp_path, b"<a><!-- granite --></a>", "a.xml")
    assert (extracted.content_type, extracted.text) == (PLAIN_TEXT, "<a><!-- granite --></a>")
    mixed = "<p>Granite <b>built</b> it.</p>"
    assert read(tmp_path, mixed.encode(), "a.xml").text == "Granite built it."


# --- source code


def test_source_code_is_told_by_its_name_and_keeps_its_lines(tmp_path: Path) -> None:
    written = "\n\n<html>\n  <?php\n    echo 'granite';\n"
    extracted = read(tmp_path, written.encode(), "page.php")
    assert (extracted.content_type, extracted.text) == (SOURCE_CODE, "<html>\n  <?php\n    echo 'granite';")
    (lines,) = extracted.structure.tables
    assert (lines.unit, list(lines.numbers), list(lines.starts)) == ("lines", [3, 4, 5], [0, 7, 15])
