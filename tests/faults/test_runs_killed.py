"""Runs of agents while processes are killed: what ended stays, what was under way is repeated, nothing else is.

A few places are tried, once each; with `QUARRY_RUN_KILLS`, every one as often as it says. One system serves all kills:
only what was killed is started again, armed for the next kill.
"""

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Any

import httpx
import orjson
import pytest

from shared.failpoints import EXIT_STATUS, VARIABLE
from tests.faults.meters import stretched
from tests.services.indexing.agents.chat_double import KEY, ChatDouble, Pause, Reply, say
from tests.support.polling import eventually
from tests.support.system import System, create_project, running_system, settled, upload

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

CLAIM_SECONDS = 2.0
TEXT = "The harbour wall of Porthgwarra was built in 1871. It is made of granite from the eastern quarry."
WORDS = [f"word{number} " for number in range(24)]
QUOTE = '<cite passage="1">It is made of granite from the eastern quarry.</cite>'
INVENTED = '<cite passage="1">Straw was carried here in nine carts by night.</cite>'
TIMES = int(os.environ.get("QUARRY_RUN_KILLS", "0"))
EVENTS = [1, 3, 6, 9, 12] if TIMES else [6]


def slowly(_body: dict[str, Any]) -> Reply:
    """A model that takes its time."""
    parts = [part for word in WORDS for part in (word, Pause(0.05))]
    return Reply([*parts, QUOTE])


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
        return ["plan", "retrieve", "select", "answer", "verify", *(["repair", "verify"] if self.repaired else [])]

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

    def failpoint(self, *, first: bool) -> str | None:
        """What arms a worker; one that has taken over the run of the kill before reaches the place for that run, too."""
        if self.place == "run.after_text":
            return None
        before = 0 if first else len(self.steps) - self.repeated
        return f"{self.place}=exit@{before + self.number}"


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


@dataclass
class Heard:
    """What a client has heard of a run, however often it came back."""

    numbers: list[int] = field(default_factory=list)
    frames: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def add(self, number: int, name: str, data: dict[str, Any]) -> None:
        self.numbers.append(number)
        self.frames.append((name, data))

    @property
    def ended(self) -> bool:
        return bool(self.frames) and self.frames[-1][0] in ("done", "error")

    @property
    def names(self) -> list[str]:
        """Without what says how the text was cut, or that it begins again."""
        return [name for name, _ in self.frames if name not in ("delta", "answer.restarted")]

    @property
    def restarts(self) -> int:
        return [name for name, _ in self.frames].count("answer.restarted")

    @property
    def pieces(self) -> int:
        """Pieces of text that count."""
        names = [name for name, _ in self.frames]
        since = len(names) - names[::-1].index("answer.restarted") if self.restarts else 0
        return names[since:].count("delta")

    @property
    def text(self) -> str:
        """As a client has it that throws its text away when told so."""
        text = ""
        for name, data in self.frames:
            text = "" if name == "answer.restarted" else text + data.get("text", "") * (name == "delta")
        return text

    def facts(self) -> list[Any]:
        """All that was told, without times, numbers and traces."""
        ignored = {"time", "sequence", "traceparent", "run_id", "text"}
        return [
            (name, {key: value for key, value in data.items() if key not in ignored})
            for name, data in self.frames
            if name not in ("delta", "answer.restarted")
        ]


async def listen(answer: httpx.Response, heard: Heard, enough: Callable[[Heard], bool] = lambda _: False) -> None:
    """Hear what comes until that is enough."""
    lines: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            lines[name] = value
            continue
        if "event" in lines and "id" in lines:
            heard.add(int(lines["id"]), lines["event"], orjson.loads(lines["data"]))
        lines = {}
        if enough(heard):
            return


@dataclass
class Asking:
    """Somebody who asks in a project with one document, and the model that answers."""

    system: System
    client: httpx.AsyncClient
    project: str
    chat: ChatDouble

    @property
    def runs(self) -> str:
        return f"/v1/projects/{self.project}/runs"

    def body(self, **options: Any) -> dict[str, Any]:
        asked = {"question": "What is the wall made of?"}
        return {"agent": "answer", "input": asked, "budget": {"model_calls": 3}, **options}

    def prepare(self, *, repaired: bool) -> None:
        """The first answer of the next run is supported, or not."""
        self.chat.replies = [say("Straw ", "was it. ", INVENTED)] if repaired else []

    async def start(self, *, repaired: bool = False, **options: Any) -> str:
        self.prepare(repaired=repaired)
        answer = await self.client.post(self.runs, json=self.body(**options))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def arm(self, failpoint: str | None) -> None:
        """Have the worker end at a place, or nowhere; it is started again."""
        worker = self.system.services["indexing"]
        await worker.stop()
        worker.env.pop(VARIABLE, None)
        if failpoint is not None:
            worker.env[VARIABLE] = failpoint
        await self.system.restart("indexing")

    async def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.client.get(f"{self.runs}/{run_id}")).json()
        return found

    async def resume(self, run_id: str, heard: Heard) -> None:
        """Come back until the run has ended."""

        async def is_over() -> bool:
            last = str(heard.numbers[-1] if heard.numbers else 0)
            try:
                async with self.client.stream(
                    "GET", f"{self.runs}/{run_id}/events", headers={"Last-Event-ID": last}, timeout=30
                ) as answer:
                    if answer.status_code == 200:
                        await listen(answer, heard)
            except httpx.HTTPError:
                return False
            return heard.ended

        await eventually(is_over, within=stretched(60), every=0.2)


@pytest.fixture(scope="module")
async def asking(folders: Callable[[str], Path]) -> AsyncIterator[Asking]:
    async with ChatDouble.serving() as chat:
        chat.script = slowly
        model = {"url": chat.url, "model": "test-model", "api_key": KEY, "max_tokens": 512}
        variables = {
            "QUARRY_INDEXING_CHAT_MODELS": orjson.dumps({"writer": model}).decode(),
            "QUARRY_INDEXING_ANSWER_MODEL": "writer",
            "QUARRY_INDEXING_RUN_CLAIM_SECONDS": str(CLAIM_SECONDS),
        }
        async with running_system(folders("runs"), durable=True, extra={"indexing": variables}) as system:
            _, client = await system.tenant("asking")
            project = await create_project(client)
            await upload(client, project, "wall.txt", TEXT.encode())
            await settled(client, project, 1)
            yield Asking(system, client, project, chat)


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


@pytest.mark.parametrize("kill", ALL_KILLS if TIMES else FEW_KILLS, ids=str)
async def test_a_killed_worker_leaves_what_has_ended_and_repeats_one_step(
    asking: Asking, undisturbed: Undisturbed, kill: Kill
) -> None:
    await asking.arm(kill.failpoint(first=True))
    times = max(1, TIMES)
    for time in range(times):
        before, heard = len(asking.chat.requests), Heard()
        run_id = await _killed(asking, kill, heard)
        await asking.arm(None if time == times - 1 else kill.failpoint(first=False))
        await asking.resume(run_id, heard)
        assert_same(heard, undisturbed[kill.repaired])
        run = await asking.run(run_id)
        assert [step["step"] for step in run["steps"]] == kill.steps
        assert [step["attempts"] for step in run["steps"]] == [
            2 if number == kill.repeated else 1 for number in range(len(kill.steps))
        ]
        assert run["usage"]["model_calls"] == len(asking.chat.requests) - before
        assert run["usage"]["model_calls"] == 1 + kill.repaired + kill.had_written
        assert heard.restarts == kill.repaired + kill.had_written


async def test_no_crash_buys_another_call(asking: Asking) -> None:
    await asking.arm("run.in_step=exit@6")
    before = len(asking.chat.requests)
    run_id = await asking.start(repaired=True, budget={"model_calls": 2})
    assert await asking.system.services["indexing"].wait() == EXIT_STATUS
    await asking.arm(None)
    heard = Heard()
    await asking.resume(run_id, heard)
    run = await asking.run(run_id)
    assert (run["status"], run["exhausted"], run["usage"]["model_calls"]) == ("incomplete", "model_calls", 2)
    assert len(asking.chat.requests) - before == 2


@pytest.mark.parametrize("service", ["gateway", "notifier"])
@pytest.mark.parametrize("after", EVENTS)
async def test_a_stream_goes_on_after_its_server_was_killed(
    asking: Asking, undisturbed: Undisturbed, service: str, after: int
) -> None:
    for _ in range(max(1, TIMES)):
        heard = Heard()
        asking.prepare(repaired=False)
        async with asking.client.stream("POST", asking.runs, json=asking.body(stream=True), timeout=30) as answer:
            run_id = answer.headers["Quarry-Run-Id"]
            await listen(answer, heard, lambda heard: len(heard.numbers) >= after)
            asking.system.services[service].kill()
            await asking.system.services[service].wait()
        await asking.system.restart(service)
        await asking.resume(run_id, heard)
        assert_same(heard, undisturbed[False])
        assert heard.restarts == 0


async def _killed(asking: Asking, kill: Kill, heard: Heard) -> str:
    """A run whose worker was killed at the place."""
    worker = asking.system.services["indexing"]
    run_id = await asking.start(repaired=kill.repaired)
    if kill.place == "run.after_text":

        def has_come_so_far(heard: Heard) -> bool:
            return heard.restarts == kill.repaired and heard.pieces >= kill.number

        async with asking.client.stream("GET", f"{asking.runs}/{run_id}/events", timeout=30) as answer:
            await listen(answer, heard, has_come_so_far)
        worker.kill()

    async def is_dead() -> bool:
        return not worker.running

    await eventually(is_dead, within=stretched(30))
    assert worker.returncode == (-SIGKILL if kill.place == "run.after_text" else EXIT_STATUS), worker.tail()
    return run_id
