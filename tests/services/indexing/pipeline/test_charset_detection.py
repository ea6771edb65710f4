"""Legacy encodings: declared ones are followed where the bytes make sense in them, others are found by statistics."""

import codecs
from itertools import chain
from pathlib import Path

import pytest

from services.indexing.pipeline.errors import UnsupportedContentType
from services.indexing.pipeline.formats import encoding_labels, text
from tests.services.indexing.pipeline.legacy_texts import legacy_texts
from tests.services.indexing.pipeline.samples import read

ENGLISH = "The quick brown fox jumps over the lazy dog. " * 200
FRENCH = "Le type de visa dépend à la fois de la durée et des motifs du séjour envisagé."
POLISH = (
    "Zauważyli, że zmiana rytmu snu prowadzi do rozregulowania wewnętrznego zegara; są bardziej narażeni na otyłość."
)
ARABIC = "في قرية من القرى كان هناك رجل حكيم يعرف كل شيء عن الحياة"
JAPANESE = "このファイルには、アプリケーションの概要が記述されています。"


def test_nearly_every_text_is_read_in_the_encodings_of_its_language() -> None:
    wrong = []
    for sentences, encoding in legacy_texts():
        first = sentences[: sentences.find(".") + 1] or sentences
        samples = (first, sentences, f"{ENGLISH}\n{sentences}\n{ENGLISH}")
        wrong += [(encoding, sample) for sample in samples if text.decode(sample.encode(encoding)) != sample]
    # Between relatives (Latin-2, Latin-4 and Latin-7 and their Windows code pages) a short text may not decide.
    assert len(wrong) <= 3, wrong


def test_a_declared_encoding_is_followed() -> None:
    for sentences, encoding in legacy_texts():
        assert text.decode(sentences.encode(encoding), encoding) == sentences


@pytest.mark.parametrize("declared", ["windows-1252", "iso-8859-1", "utf-8", "shift_jis", "us-ascii", "klingon"])
def test_a_declared_encoding_that_makes_no_sense_is_not(declared: str) -> None:
    assert text.decode(ARABIC.encode("cp1256"), declared) == ARABIC
    assert text.decode(ARABIC.encode(), declared) == ARABIC


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("ISO-8859-1", "cp1252"),
        ("latin1", "cp1252"),
        ("ascii", "cp1252"),
        ("gb2312", "gb18030"),
        ("x-sjis", "cp932"),
        ("ks_c_5601-1987", "cp949"),
        ("iso-8859-9", "cp1254"),
        ("x-mac-cyrillic", "mac_cyrillic"),
        ("IBM850", "cp850"),
        ("hz-gb-2312", "hz"),
        ("iso-2022-kr", "iso2022_kr"),
        ("unicode_escape", None),
        ("utf-7", None),
        ("rot13", None),
        ("punycode", None),
        ("x-user-defined", None),
        ("größe", None),
        ("", None),
    ],
)
def test_labels_are_those_of_browsers(declared: str, encoding: str | None) -> None:
    assert encoding_labels.codec(declared) == encoding
    assert encoding is None or codecs.lookup(encoding)


@pytest.mark.parametrize("declaration", ['<meta charset="{}">', "<?xml version='1.0' encoding='{}'?>"])
def test_a_declaration_within_the_text_is_followed_or_not_by_the_same_rule(declaration: str) -> None:
    right = f"{declaration.format('iso-8859-2')}\n{POLISH}"
    assert text.decode(right.encode("iso-8859-2")) == right
    misleading = f"{declaration.format('utf-8')}\n{ARABIC}"
    assert text.decode(misleading.encode("cp1256")) == misleading


def test_what_the_uploader_declares_comes_before_what_the_text_says() -> None:
    written = '<meta charset="windows-1252">\nCzęść'
    assert text.decode(written.encode("iso-8859-2"), "iso-8859-2") == written


@pytest.mark.parametrize("declared_type", ["text/plain; charset=iso-8859-2", 'text/plain;format=flowed; Charset="L2"'])
def test_the_charset_of_the_declared_type_is_used(tmp_path: Path, declared_type: str) -> None:
    extracted = read(tmp_path, "Część".encode("iso-8859-2"), "note.txt", declared_type=declared_type)
    assert extracted.text == "Część"


@pytest.mark.parametrize("encoding", ["iso2022_jp", "iso2022_jp_ext"])
def test_text_of_seven_bits_is_recognised_by_its_escapes(encoding: str) -> None:
    assert text.decode(f"README\n{JAPANESE}".encode(encoding)) == f"README\n{JAPANESE}"


@pytest.mark.parametrize("written", ['(format t "~{~A~}" list)', "~{s, ~}", "\x1b[1mbold\x1b[0m", "a ~{ b"])
def test_other_text_with_such_signs_stays_as_it_is(written: str) -> None:
    assert text.decode(written.encode()) == written


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    "written", ["Granite built the wall.", "Гранит, стена; море.", "花崗岩の壁。\n海。\n" * 5, FRENCH]
)
def test_wide_text_needs_no_mark(encoding: str, written: str) -> None:
    assert text.decode(written.encode(encoding)) == written


def test_wide_text_without_any_zero_byte_is_read_as_declared() -> None:
    assert text.decode("花崗岩の壁。".encode("utf-16-be"), "utf-16be") == "花崗岩の壁。"
    assert text.decode(b"Granite.", "utf-16le") == "Granite."


@pytest.mark.parametrize("sentence", ["50 €", "25 °C", "3½ × 4", "“quoted” – it’s", "© 2004"])
def test_a_few_western_signs_are_no_other_alphabet(sentence: str) -> None:
    for before in ("", ENGLISH):
        assert text.decode((before + sentence).encode("cp1252")) == before + sentence


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Granite\0 built the wall.", "Granite\0 built the wall."),
        (b"Granite" + bytes(5000), "Granite" + "\0" * 5000),
        (b"a\x1eb\x1ec, and some more text than there are separators", "a\x1eb\x1ec, and some more text than there"),
        ("Größe, Straße ".encode() + b"\xff", "Größe, Straße \ufffd"),
        (b"Das Wort: " + "’".encode()[:2], "Das Wort: \ufffd"),
        (codecs.BOM_UTF16_LE + "Granite".encode("utf-16-le") + b"x", "Granite\ufffd"),
        (codecs.BOM_UTF8 + b"Granite \xff", "Granite \ufffd"),
        (FRENCH.encode("cp1252") + b"\x81", FRENCH + "\ufffd"),
        ((JAPANESE * 3).encode("cp932") + b"\x81", JAPANESE * 3 + "\ufffd"),
    ],
)
def test_a_damaged_byte_or_a_zero_is_no_reason_to_refuse_a_text(content: bytes, expected: str) -> None:
    assert text.decode(content).startswith(expected)


@pytest.mark.parametrize("length", [1000, 100_000, 2_000_000])
def test_what_is_no_text_is_named_so_whatever_its_size(tmp_path: Path, length: int) -> None:
    noise = bytes(byte for byte in chain.from_iterable(range(256) for _ in range(length // 256)))
    with pytest.raises(UnsupportedContentType, match="not text"):
        read(tmp_path, noise, "noise.txt", declared_type="text/plain; charset=iso-8859-1", max_characters=100)


def test_a_large_text_with_a_broken_part_is_read(tmp_path: Path) -> None:
    content = ENGLISH.encode() * 60 + bytes(range(1, 9)) * 1000
    assert read(tmp_path, content, "log.txt").text.startswith("The quick")


@pytest.mark.parametrize(
    "content",
    [b"~{" * 500_000, b"\x1b$" * 500_000, b"\x1b$B" * 300_000, b"<meta " * 200_000 + b"\xe9", b"\xe9" * 1_000_000],
    ids=["tildes", "escapes", "shifts", "tags", "one letter"],
)
def test_telling_encodings_takes_no_time(content: bytes) -> None:
    text.decode(content)
