"""Runs of agents while processes are killed: what ended stays, what was under way is repeated, nothing else is.

A few places are tried, with one run each; with `QUARRY_RUN_KILLS`, every one with as many runs as it says, `AT_ONCE` of
them under way when the worker is killed. One system serves all kills: only what was killed is started again.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.asking import RUNS_AT_ONCE, STEPS, WORDS, Asking, Heard, asking_in, listen

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

KILLS = "QUARRY_RUN_KILLS"
TIMES = int(os.environ.get(KILLS, "1"))
# A tenant has half of the places.
AT_ONCE = RUNS_AT_ONCE // 4
EVENTS = [1, 6, 12] if KILLS in os.environ else [6]


@dataclass(frozen=True)
class Kill:
    """Where the worker is killed: `number` counts the steps of the run, or the pieces of text of its last writing.

    repaired: the first answer is without support, and the run has it written again.
    """

    place: str
    number: int
    repaired: bool = False

    def __str__(self) -> str:
        return f"{self.place}@{self.number}{'-repaired' if self.repaired else ''}"

    @property
    def steps(self) -> list[str]:
        return [*STEPS, *(["repair", "verify"] if self.repaired else [])]

    @property
    def repeated(self) -> int:
        """The step under way, which is the one that has to be repeated."""
        if self.place == "run.after_text":
            return 5 if self.repaired else 3
        return self.number - (self.place == "run.in_step")

    @property
    def had_written(self) -> bool:
        """Whether the model had been called in this step."""
        return self.place != "run.after_step" and self.steps[self.repeated] in ("answer", "repair")

    @property
    def failpoint(self) -> str:
        """What has one run after the other stop at the place: the text without support is a visit, too."""
        visits = self.number + (self.place == "run.after_text" and self.repaired)
        return f"{self.place}=hang%{visits}"


ALL_KILLS = [
    *(Kill("run.in_step", number) for number in range(1, 6)),
    *(Kill("run.after_step", number) for number in range(1, 5)),
    *(Kill("run.after_text", number) for number in (1, 4)),
    *(Kill("run.in_step", number, repaired=True) for number in (5, 6, 7)),
    *(Kill("run.after_step", number, repaired=True) for number in (5, 6)),
    Kill("run.after_text", 2, repaired=True),
]
FEW_KILLS = [
    Kill("run.in_step", 2),
    Kill("run.after_step", 3),
    Kill("run.after_text", 4),
    Kill("run.in_step", 6, repaired=True),
]


@pytest.fixture(scope="module")
async def asking(folders: Callable[[str], Path]) -> AsyncIterator[Asking]:
    async with asking_in(folders("runs")) as made:
        yield made


Undisturbed = dict[bool, Heard]


@pytest.fixture(scope="module")
async def undisturbed(asking: Asking) -> Undisturbed:
    """What is heard of a run that nobody disturbs, without and with a repair."""
    heard = {repaired: Heard() for repaired in (False, True)}
    for repaired, hearing in heard.items():
        await asking.resume(await asking.start(repaired=repaired), hearing)
        assert (hearing.text.split(), hearing.frames[-1][0]) == ("".join(WORDS).split(), "done")
        assert hearing.restarts == repaired
    return heard


def assert_same(heard: Heard, undisturbed: Heard) -> None:
    assert heard.numbers == list(range(1, len(heard.numbers) + 1))
    assert heard.names == undisturbed.names
    assert heard.facts() == undisturbed.facts()
    assert heard.text == undisturbed.text


@pytest.mark.parametrize("kill", ALL_KILLS if KILLS in os.environ else FEW_KILLS, ids=str)
async def test_a_killed_worker_leaves_what_has_ended_and_repeats_one_step(
    asking: Asking, undisturbed: Undisturbed, kill: Kill
) -> None:
    for first in range(0, TIMES, AT_ONCE):
        before, runs = len(asking.chat.requests), list[str]()
        async with asking.armed_worker(kill.failpoint):
            for _ in range(min(AT_ONCE, TIMES - first)):
                runs.append(await asking.stopped(repaired=kill.repaired))
        heard = {run_id: Heard() for run_id in runs}
        await asyncio.gather(*(asking.resume(run_id, hearing) for run_id, hearing in heard.items()))
        for run_id, hearing in heard.items():
            assert_same(hearing, undisturbed[kill.repaired])
            run = await asking.run(run_id)
            assert [step["step"] for step in run["steps"]] == kill.steps
            assert [step["attempts"] for step in run["steps"]] == [
                2 if number == kill.repeated else 1 for number in range(len(kill.steps))
            ]
            assert run["usage"]["model_calls"] == 1 + kill.repaired + kill.had_written
            assert hearing.restarts == kill.repaired + kill.had_written
        assert len(asking.chat.requests) - before == len(runs) * (1 + kill.repaired + kill.had_written)


async def test_no_crash_buys_another_call(asking: Asking) -> None:
    kill = Kill("run.in_step", 6, repaired=True)
    before = len(asking.chat.requests)
    async with asking.armed_worker(kill.failpoint):
        run_id = await asking.stopped(repaired=True, budget={"model_calls": 2})
    await asking.resume(run_id, Heard())
    run = await asking.run(run_id)
    assert (run["status"], run["exhausted"], run["usage"]["model_calls"]) == ("incomplete", "model_calls", 2)
    assert len(asking.chat.requests) - before == 2


@pytest.mark.parametrize("service", ["gateway", "notifier"])
@pytest.mark.parametrize("after", EVENTS)
async def test_a_stream_goes_on_after_its_server_was_killed(
    asking: Asking, undisturbed: Undisturbed, service: str, after: int
) -> None:
    for _ in range(TIMES):
        heard = Heard()
        asking.prepare(repaired=False)
        async with asking.client.stream("POST", asking.runs, json=asking.body(stream=True), timeout=30) as answer:
            run_id = answer.headers["Quarry-Run-Id"]
            await listen(answer, heard, most=after)
            asking.system.services[service].kill()
            await asking.system.services[service].wait()
        await asking.system.restart(service)
        await asking.resume(run_id, heard)
        assert_same(heard, undisturbed[False])
        assert heard.restarts == 0
