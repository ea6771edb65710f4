"""Where sentences end."""

import time

import pytest

from services.indexing.analysis import sentences


def split(text: str, language: str | None = None) -> list[str]:
    return [text[start:end] for start, end in sentences.spans(text, language)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It opened in 1932. It spans 503 metres.", ["It opened in 1932.", "It spans 503 metres."]),
        ("Dr. Smith paid 3.50 at No. 5. He left.", ["Dr. Smith paid 3.50 at No. 5.", "He left."]),
        ("Das gilt z. B. für Hunde. Es stimmt.", ["Das gilt z. B. für Hunde.", "Es stimmt."]),
        ("今天很热。明天更热！", ["今天很热。", "明天更热！"]),
        ("# Heading\n\nText of it.", ["Heading", "Text of it."]),
        ("- one thing\n- another one. And more.", ["one thing", "another one.", "And more."]),
        ("Name\tAge\nAda. B\t36", ["Name\tAge", "Ada. B\t36"]),
        ("| a | b. C |\n| 1 | 2 |", ["| a | b. C |", "| 1 | 2 |"]),
        ("A short line\nAnother one", ["A short line", "Another one"]),
        (
            "A line that was wrapped because it is longer than\nsixty characters. Next.",
            ["A line that was wrapped because it is longer than\nsixty characters.", "Next."],
        ),
        (" \n\t\n", []),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert split(text, "de" if "Hunde" in text else None) == expected


@pytest.mark.parametrize("unit", ["a ", "a", "a\n", "- ", ". ", '"', "| ", "\n"])
def test_any_text_takes_linear_time_and_its_sentences_are_short(unit: str) -> None:
    began = time.process_time()
    assert all(len(sentence) <= sentences.LONGEST for sentence in split(unit * 50_000))
    assert time.process_time() - began < 2
