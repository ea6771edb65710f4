"""Remove guards one at a time and see whether the tests notice: `uv run mutate [--only NAME ...] [--write]`.

Names may be beginnings (`vectors-`). First the tests that have to notice are run without any mutation: a test that is
red by itself proves nothing. Ends with 1 when a guard can be removed unseen.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from tests.isolation.mutations import report
from tests.isolation.mutations.guards import ALL
from tests.isolation.mutations.model import Mutation, Outcome, Verdict
from tests.isolation.mutations.running import copied_tree, outcome_of


def main() -> None:
    arguments = _arguments()
    chosen = [item for item in ALL if not arguments.only or item.name.startswith(tuple(arguments.only))]
    if arguments.list:
        for mutation in chosen:
            print(f"{mutation.name:32} {mutation.guard}")
        return
    if not chosen:
        sys.exit("no such mutation")
    outcomes = asyncio.run(_run(chosen, baseline=not arguments.no_baseline, side_by_side=arguments.side_by_side))
    if arguments.write:
        report.write(outcomes)
    print(f"\n{report.rate(outcomes)}")
    sys.exit(any(outcome.verdict is not Verdict.KILLED for outcome in outcomes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutate", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="mutations whose names begin so")
    parser.add_argument("--list", action="store_true", help="say which there are")
    parser.add_argument("--write", action="store_true", help="write the table into docs/security.md")
    parser.add_argument("--no-baseline", action="store_true", help="take it that the tests pass without a mutation")
    parser.add_argument("--side-by-side", type=int, default=1, metavar="N", help="so many at a time")
    return parser.parse_args()


async def _run(mutations: Sequence[Mutation], *, baseline: bool, side_by_side: int) -> list[Outcome]:
    if baseline:
        await _refuse_red_tests(mutations)
    waiting = list(reversed(mutations))
    outcomes: dict[str, Outcome] = {}

    async def work() -> None:
        async with copied_tree() as tree:
            while waiting:
                mutation = waiting.pop()
                outcome = outcomes[mutation.name] = await outcome_of(tree, mutation)
                done = f"[{len(outcomes)}/{len(mutations)}]"
                print(
                    f"{done} {outcome.verdict:8} {outcome.name} ({outcome.seconds:.0f} s) {outcome.evidence}",
                    flush=True,
                )

    async with asyncio.TaskGroup() as group:
        for _ in range(side_by_side):
            group.create_task(work())
    return [outcomes[mutation.name] for mutation in mutations]


async def _refuse_red_tests(mutations: Sequence[Mutation]) -> None:
    tests = sorted({test for mutation in mutations for test in mutation.tests})
    async with copied_tree() as tree:
        red = await tree.run(tests, first_only=False)
    if red:
        sys.exit("these tests fail without any mutation:\n" + "\n".join(f"{test}: {reason}" for test, reason in red))


if __name__ == "__main__":
    main()
