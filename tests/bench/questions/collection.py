"""Questions with known answers: 100 over 30 documents of several formats, and 50 that they do not answer.

Half of the questions are for tuning and half are held out, by document: a document and everything asked about it is in
one half. Questions about no document are divided in turn.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from tests.bench.questions.formats import RENDERERS

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Question:
    """`answer` is text of `document` that a right answer contains. Without one the documents do not say; `document` is
    then the one whose subject it is, or none."""

    text: str
    document: str | None
    answer: str | None
    held_out: bool

    def answered_by(self, text: str) -> bool:
        return self.answer is not None and _plain(self.answer) in _plain(text)


def documents() -> dict[str, bytes]:
    """The content of each document, by name, in order."""
    found = {}
    for source in sorted((_HERE / "documents").iterdir()):
        name = source.name.removesuffix(".md")
        found[name] = RENDERERS.get(name.rpartition(".")[2], str.encode)(source.read_text(encoding="utf-8"))
    return found


def questions() -> list[Question]:
    halves = {name: bool(number % 2) for number, name in enumerate(documents())}
    return [
        Question(item["question"], item["document"], item["answer"], halves.get(item["document"], bool(number % 2)))
        for number, item in enumerate(map(orjson.loads, (_HERE / "questions.jsonl").read_bytes().splitlines()))
    ]


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text)
