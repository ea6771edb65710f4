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
from services.indexing.pipeline.errors import DocumentTooLarge, ExtractionError
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
    text = read(tmp_path, written.encode(), "a.csv").text
    assert text.count("granite") == 5000


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


@pytest.mark.parametrize("written", ['{"a": 1', "[" * 100_000, '{"a": NaN, b}', "Granite."])
def test_what_is_no_json_is_read_as_text(tmp_path: Path, written: str) -> None:
    if written[0] == "[":
        with pytest.raises(ExtractionError):  # no word in it
            read(tmp_path, (written + "\0" * 9).encode(), "a.json", max_characters=10)
        return
    extracted = read(tmp_path, written.encode(), "a.json")
    assert (extracted.content_type, extracted.text) == (PLAIN_TEXT, written)


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


def test_xml_that_cannot_be_read_safely_is_shown_as_it_is(tmp_path: Path) -> None:
    for written in ("<a><b>granite</a>", f"{entity_bomb()}<a>&j; granite</a>", "<a>&unknown;</a>", "<a></a>"):
        extracted = read(tmp_path, written.encode(), "a.xml")
        assert (extracted.content_type, extracted.text) == (PLAIN_TEXT, written)
    mixed = "<p>Granite <b>built</b> it.</p>"
    assert read(tmp_path, mixed.encode(), "a.xml").text == "Granite built it."
    with pytest.raises(DocumentTooLarge):
        read(tmp_path, f"<a><b>{'x' * 3000}</b></a>".encode(), "a.xml", max_characters=1000)


# --- source code


def test_source_code_is_told_by_its_name_and_keeps_its_lines(tmp_path: Path) -> None:
    written = "\n\n<html>\n  <?php\n    echo 'granite';\n"
    extracted = read(tmp_path, written.encode(), "page.php")
    assert (extracted.content_type, extracted.text) == (SOURCE_CODE, "<html>\n  <?php\n    echo 'granite';")
    (lines,) = extracted.structure.tables
    assert (lines.unit, list(lines.numbers), list(lines.starts)) == ("lines", [3, 4, 5], [0, 7, 15])
