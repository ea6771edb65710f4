"""Plain text and Markdown: encodings, clean-up, and what is no text at all."""

import codecs
import os
import random
import unicodedata
from pathlib import Path

import pytest

from services.indexing.pipeline.documents import MARKDOWN, PLAIN_TEXT
from services.indexing.pipeline.errors import (
    DocumentTooLarge,
    DocumentUnreadable,
    EmptyDocument,
    UnsupportedContentType,
)
from services.indexing.pipeline.formats import text, warm_up
from services.indexing.pipeline.memory_files import mapped
from tests.services.indexing.pipeline.samples import read

FRENCH = "L'été à la plage, les élèves étudient le français près du château."
GERMAN = "Größe und Straße, überall schöne Häuser für müde Wanderer."


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("sentence", [FRENCH, GERMAN, "El niño comió piña mañana.", "The café is open; a cake is £5."])
def test_western_text_is_read_in_every_usual_encoding(tmp_path: Path, encoding: str, sentence: str) -> None:
    assert read(tmp_path, sentence.encode(encoding), "note.txt").text == sentence


@pytest.mark.parametrize(
    ("sentence", "encoding"),
    [
        ("Привет мир, как дела сегодня", "cp1251"),
        ("日本語のテキストです。今日は天気がいいですね。", "shift_jis"),
        ("简体中文文本，今天天气很好", "gb18030"),
        ("Zażółć gęślą jaźń. Cześć, dzień dobry wszystkim, jutro będzie świeciło słońce.", "cp1250"),
    ],
)
def test_other_scripts_are_recognised(tmp_path: Path, sentence: str, encoding: str) -> None:
    assert read(tmp_path, sentence.encode(encoding), "note.txt").text == sentence


def test_utf8_with_a_broken_byte_keeps_its_accents(tmp_path: Path) -> None:
    content = (FRENCH * 3).encode()
    assert read(tmp_path, content + b"\xff end").text == FRENCH * 3 + "\ufffd end"


def test_marked_utf16_that_is_cut_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedContentType):
        read(tmp_path, codecs.BOM_UTF16_LE + b"\x00\xd8\x00")


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_unsupported(tmp_path: Path, seed: int) -> None:
    with pytest.raises(UnsupportedContentType) as caught:
        read(tmp_path, random.Random(seed).randbytes(5000), "note.txt", declared_type="text/plain")
    assert caught.value.permanent


def test_control_characters_without_zero_bytes_are_unsupported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedContentType):
        read(tmp_path, bytes(range(1, 32)) * 50 + b"text")


def test_bytes_of_no_encoding_are_unsupported() -> None:
    noise = bytes(byte for byte in random.Random(0).randbytes(4000) if byte >= 0x20 and byte != 0x7F)
    with pytest.raises(UnsupportedContentType) as caught:
        text.decode(noise)
    assert caught.value.detail == "no known encoding"


def test_text_is_normalised(tmp_path: Path) -> None:
    written = "\ufeffone\r\ntwo\rthree\u2028four\x0bfive\x00\u00ad\u200bsix\ttab " + unicodedata.normalize("NFD", "é")
    assert text.clean(written) == "one\ntwo\nthree\nfour\n\nfivesix\ttab é"


@pytest.mark.parametrize(
    "text,title",
    [
        ("The wing in a slipstream .\n\nAn experimental study of a wing.", "The wing in a slipstream ."),
        ("Harbour log\r\n   \r\nCalm.", "Harbour log"),
        ("Dear Anna,\n\nthe lamp is lit.", None),
        ("One line of text\nand the next.", None),
        ("A note.", None),
        ("----------\n\nText.", None),
        ("word " * 50 + "\n\nText.", None),
    ],
)
def test_a_line_that_stands_alone_above_the_rest_is_the_title(tmp_path: Path, text: str, title: str | None) -> None:
    assert read(tmp_path, text.encode()).title == title


@pytest.mark.parametrize("content", [b"", b" \r\n\t ", "\ufeff".encode()])
def test_nothing_to_read_is_an_empty_document(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(EmptyDocument):
        read(tmp_path, content)


def test_zero_bytes_say_that_the_file_is_empty(tmp_path: Path) -> None:
    with pytest.raises(EmptyDocument, match="The file is empty"):
        read(tmp_path, b"", "scan.pdf")


def test_more_text_than_allowed_is_refused(tmp_path: Path) -> None:
    assert read(tmp_path, b"x" * 100, max_characters=100).text == "x" * 100
    for content in (b"x" * 101, b"x" * 401):
        with pytest.raises(DocumentTooLarge):
            read(tmp_path, content, max_characters=100)


@pytest.mark.parametrize(
    ("name", "declared_type", "expected"),
    [
        ("a.md", "", MARKDOWN),
        ("a.MARKDOWN", "application/octet-stream", MARKDOWN),
        ("a", "text/x-markdown; charset=utf-8", MARKDOWN),
        ("a.txt", "text/plain", PLAIN_TEXT),
        ("a.pdf", "application/pdf", PLAIN_TEXT),
        ("a.docx", "", PLAIN_TEXT),
        ("a.html", "text/html", PLAIN_TEXT),
    ],
)
def test_name_and_declared_type_only_tell_text_from_markdown(
    tmp_path: Path, name: str, declared_type: str, expected: str
) -> None:
    extracted = read(tmp_path, b"# Title #\n\nPlain words, 1 < 2.", name, declared_type=declared_type)
    assert extracted.content_type == expected
    assert extracted.title == ("Title" if expected == MARKDOWN else "# Title #")
    assert extracted.pages is None


def test_markdown_keeps_its_markup_and_indentation(tmp_path: Path) -> None:
    written = "    code\n\n# One\n\n* item\n"
    assert read(tmp_path, written.encode(), "a.md").text == "    code\n\n# One\n\n* item"


def test_what_is_no_file_is_unreadable() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w"), pytest.raises(DocumentUnreadable):
        mapped(reading)


def test_the_parsers_warm_up_on_samples_of_their_own() -> None:
    warm_up()
