"""What is wrong with an answer, whatever the question was.

Every answer: no 5xx, one request id, an error is a problem document (RFC 9457) that agrees with its status line, or an
error of JSON-RPC, and nothing of another tenant: its words, its secrets, its ids unless the question named them. No
insides either: traces of a crash, SQL, names of modules.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import httpx

from shared.problems import PROBLEM_JSON, Problem
from shared.request_context import REQUEST_ID
from tests.isolation.canaries import CANARY, found_in

SERVER_ERROR: Final = "server error"
LEAK: Final = "leak"
_FIELDS: Final = frozenset(Problem.model_fields)
# What problems of a code tell besides.
_MEMBERS: Final = {"quota_exceeded": {"quota", "limit", "used"}, "duplicate_document": {"document_id"}}
_INSIDES: Final = re.compile(
    r"Traceback \(most recent call last\)|File \"/|\.py\", line \d|site-packages|sqlalchemy|asyncpg|psycopg"
    r"|\bSELECT\b.+\bFROM\b|\bINSERT INTO\b|\bUPDATE\b.+\bSET\b|\bpg_catalog\b|0x[0-9a-f]{12}"
)


class Wrong(NamedTuple):
    """One thing that is wrong, under the name of the check that saw it."""

    check: str
    what: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets, without the library it came through."""

    method: str
    status: int
    reason: str
    headers: Sequence[tuple[str, str]]
    body: str

    @classmethod
    def of(cls, answer: httpx.Response) -> "Answer":
        return cls(
            answer.request.method,
            answer.status_code,
            answer.reason_phrase,
            answer.headers.multi_items(),
            answer.text if answer.is_closed else "",
        )

    def all_of(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def text(self) -> str:
        return "\n".join([self.reason, *(f"{name}: {value}" for name, value in self.headers), self.body])


@dataclass(frozen=True, slots=True)
class Foreign:
    """What one tenant must never see: canaries whose kind begins with another's letter, others' ids and secrets."""

    own_letter: str
    ids: frozenset[str]
    secrets: frozenset[str]


def wrong_with(answer: Answer, foreign: Foreign, *, question: str) -> list[Wrong]:
    """Everything that is wrong with an answer; `question` is all that was sent, which may be repeated."""
    return [*_of_form(answer), *_of_others(answer, foreign, question), *_of_insides(answer, question)]


def foreign_canaries(text: str, own_letter: str) -> set[str]:
    """Kinds of canaries that are not the tenant's own; a cut one counts."""
    return {kind for kind in found_in(text) if not kind.startswith(own_letter)}


def _of_form(answer: Answer) -> Iterator[Wrong]:
    if answer.status >= 500:
        yield Wrong(SERVER_ERROR, f"{answer.status}: {answer.body[:300]}")
    ids = answer.all_of("x-request-id")
    if len(ids) != 1 or not REQUEST_ID.match(ids[0]):
        yield Wrong("request id", f"{answer.status}: {ids}")
    if answer.status >= 400 and answer.method != "HEAD" and not _is_of_rpc(answer):
        yield from _of_problem(answer, ids)


def _is_of_rpc(answer: Answer) -> bool:
    """Whether it is an error as JSON-RPC 2.0 has it."""
    if answer.status not in (400, 404, 406) or answer.all_of("content-type") != ["application/json"]:
        return False
    try:
        error = json.loads(answer.body)
    except ValueError:
        return False
    return isinstance(error, dict) and error.keys() == {"jsonrpc", "id", "error"} and isinstance(error["error"], dict)


def _of_problem(answer: Answer, request_ids: Collection[str]) -> Iterator[Wrong]:
    types = answer.all_of("content-type")
    if types != [PROBLEM_JSON]:
        yield Wrong("problem document", f"{answer.status} is {types}: {answer.body[:200]!r}")
        return
    try:
        problem = json.loads(answer.body)
    except ValueError:
        yield Wrong("problem document", f"{answer.status} is not JSON: {answer.body[:200]!r}")
        return
    if not isinstance(problem, dict) or problem.keys() != _FIELDS | _MEMBERS.get(problem.get("code", ""), set()):
        yield Wrong("problem document", f"{answer.status} has other fields: {answer.body[:200]!r}")
    elif problem["status"] != answer.status or problem["request_id"] not in request_ids or not problem["code"]:
        yield Wrong("problem document", f"{answer.status} is not what its body says: {answer.body[:200]!r}")
    if answer.status in (429, 503) and not answer.all_of("retry-after"):
        yield Wrong("problem document", f"{answer.status} does not say when to come back")


def _of_others(answer: Answer, foreign: Foreign, question: str) -> Iterator[Wrong]:
    text = answer.text
    if CANARY in text and (words := foreign_canaries(text, foreign.own_letter)):
        yield Wrong(LEAK, f"words of another tenant: {sorted(words)} in {text[:500]!r}")
    if named := [item for item in foreign.ids if item in text and item not in question]:
        yield Wrong(LEAK, f"ids of another tenant that nobody named: {named} in {text[:500]!r}")
    if any(secret in text for secret in foreign.secrets):
        yield Wrong(LEAK, "a secret of another tenant")


def _of_insides(answer: Answer, question: str) -> Iterator[Wrong]:
    found = _INSIDES.search(answer.body)
    if found is not None and found[0] not in question:
        yield Wrong("insides", answer.body[max(0, found.start() - 100) : found.end() + 200])
