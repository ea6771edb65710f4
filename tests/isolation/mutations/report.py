"""The table of what became of every mutation, in the page about security."""

import re
from collections.abc import Sequence
from typing import Final

from infra.local.home import ROOT
from tests.isolation.mutations.model import Outcome, Verdict

PAGE: Final = ROOT / "docs" / "security.md"
_BEGIN, _END = "<!-- mutations: begin -->", "<!-- mutations: end -->"


def rate(outcomes: Sequence[Outcome]) -> str:
    killed = sum(outcome.verdict is Verdict.KILLED for outcome in outcomes)
    return f"{killed} of {len(outcomes)} guards were noticed missing: {100 * killed / len(outcomes):.0f} %"


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown. One line per guard, with the test that turned red."""
    lines = [
        rate(outcomes) + ".",
        "",
        "| mutation | guard taken away | verdict | seen by |",
        "| --- | --- | --- | --- |",
    ]
    for outcome in outcomes:
        evidence = outcome.evidence.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| `{outcome.name}` | {outcome.guard} | {outcome.verdict} | `{_short(evidence)}` |")
    return "\n".join(lines)


def write(outcomes: Sequence[Outcome]) -> None:
    """Put the table between its markers; mutations that were not run keep their line."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = page.index(_BEGIN) + len(_BEGIN), page.index(_END)
    kept = {line.split("`")[1]: line for line in page[begin:end].splitlines() if line.startswith("| `")}
    rows = {outcome.name: line for outcome, line in zip(outcomes, table(outcomes).splitlines()[4:], strict=True)}
    lines = {**kept, **rows}
    killed = sum("| killed |" in line for line in lines.values())
    head = [
        "",
        f"{killed} of {len(lines)} guards were noticed missing: {100 * killed // len(lines)} %.",
        "",
        *table(outcomes).splitlines()[2:4],
    ]
    PAGE.write_text(page[:begin] + "\n".join([*head, *lines.values(), ""]) + page[end:], encoding="utf-8")


def _short(evidence: str) -> str:
    return re.sub(r"^tests/", "", evidence)[:160]
