"""Runs of agents while processes are killed: what ended stays, what was under way is repeated, nothing else is.

Each kill takes as long as its claim lasts, so a few places are tried; with `QUARRY_RUN_KILLS`, every one as often as it
says.
"""

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from shared.failpoints import EXIT_STATUS, VARIABLE
from tests.faults.meters import stretched
from tests.services.indexing.agents.chat_double import KEY, ChatDouble, Pause, Reply
from tests.support.polling import eventually
from tests.support.system import System, create_project, running_system, settled, upload

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

TEXT = "The harbour wall of Porthgwarra was built in 1871. It is made of granite from the eastern quarry."
WORDS = [f"word{number} " for number in range(24)]
QUOTE = '<cite passage="1">It is made of granite from the eastern quarry.</cite>'
STEPS = ["plan", "retrieve", "select", "answer", "verify"]
ALL_PLACES = [
    *(f"run.in_step=exit@{number}" for number in range(1, 6)),
    *(f"run.after_step=exit@{number}" for number in range(1, 5)),
    *(f"run.after_text=exit@{number}" for number in (1, 4)),
]
TIMES = int(os.environ.get("QUARRY_RUN_KILLS", "0"))
PLACES = ALL_PLACES if TIMES else ["run.in_step=exit@2", "run.in_step=exit@5", "run.after_step=exit@3", ALL_PLACES[-1]]
EVENTS = [1, 6, 9] if TIMES else [6]


def slowly(_body: dict[str, Any]) -> Reply:
    """A model that takes its time."""
    parts = [part for word in WORDS for part in (word, Pause(0.05))]
    return Reply([*parts, QUOTE])


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


async def listen(answer: httpx.Response, heard: Heard, *, most: int = 10**6) -> None:
    """Hear at most so many more events."""
    until = len(heard.numbers) + most
    lines: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            lines[name] = value
            continue
        if "event" in lines and "id" in lines:
            heard.add(int(lines["id"]), lines["event"], orjson.loads(lines["data"]))
        lines = {}
        if len(heard.numbers) >= until:
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
        return {"agent": "answer", "input": {"question": "What is the wall made of?"}, **options}

    async def start(self) -> str:
        answer = await self.client.post(self.runs, json=self.body())
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

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
        }
        async with running_system(folders("runs"), durable=True, extra={"indexing": variables}) as system:
            _, client = await system.tenant("asking")
            project = await create_project(client)
            await upload(client, project, "wall.txt", TEXT.encode())
            await settled(client, project, 1)
            yield Asking(system, client, project, chat)


@pytest.fixture(scope="module")
async def undisturbed(asking: Asking) -> Heard:
    heard = Heard()
    await asking.resume(await asking.start(), heard)
    assert (heard.text.split(), heard.frames[-1][0]) == ("".join(WORDS).split(), "done")
    return heard


def assert_same(heard: Heard, undisturbed: Heard) -> None:
    assert heard.numbers == list(range(1, len(heard.numbers) + 1))
    assert heard.names == undisturbed.names
    assert heard.facts() == undisturbed.facts()
    assert heard.text == undisturbed.text


@pytest.mark.parametrize("time", range(max(1, TIMES)))
@pytest.mark.parametrize("place", PLACES)
async def test_a_killed_worker_leaves_what_has_ended_and_repeats_one_step(
    asking: Asking, undisturbed: Heard, place: str, time: int
) -> None:
    indexing = asking.system.services["indexing"]
    await indexing.stop()
    indexing.env[VARIABLE] = place
    await asking.system.restart("indexing")
    before = len(asking.chat.requests)
    run_id = await asking.start()

    async def is_dead() -> bool:
        return not indexing.running

    await eventually(is_dead, within=stretched(30))
    assert indexing.returncode == EXIT_STATUS, indexing.tail()
    del indexing.env[VARIABLE]
    await asking.system.restart("indexing")
    heard = Heard()
    await asking.resume(run_id, heard)
    assert_same(heard, undisturbed)
    run = await asking.run(run_id)
    assert [step["step"] for step in run["steps"]] == STEPS
    attempts = [step["attempts"] for step in run["steps"]]
    assert sorted(attempts) == [1, 1, 1, 1, 2]
    assert run["usage"]["model_calls"] == len(asking.chat.requests) - before <= 2
    repeated = STEPS[attempts.index(2)]
    assert heard.restarts == ("after_text" in place or place == "run.in_step=exit@4")
    assert (repeated == "answer") == (run["usage"]["model_calls"] == 2 or place == "run.after_step=exit@3")


@pytest.mark.parametrize("service", ["gateway", "notifier"])
@pytest.mark.parametrize("after", EVENTS)
async def test_a_stream_goes_on_after_its_server_was_killed(
    asking: Asking, undisturbed: Heard, service: str, after: int
) -> None:
    heard = Heard()
    async with asking.client.stream("POST", asking.runs, json=asking.body(stream=True), timeout=30) as answer:
        run_id = answer.headers["Quarry-Run-Id"]
        await listen(answer, heard, most=after)
        asking.system.services[service].kill()
        await asking.system.services[service].wait()
    await asking.system.restart(service)
    await asking.resume(run_id, heard)
    assert_same(heard, undisturbed)
    assert heard.restarts == 0
