"""Somebody who asks questions of a running system whose answers a scripted model writes, and hears what comes."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Any

import httpx
import orjson

from shared.failpoints import VARIABLE
from tests.faults.meters import stretched
from tests.services.indexing.agents.chat_double import KEY, ChatDouble, Pause, Reply
from tests.support.polling import eventually
from tests.support.system import System, create_project, running_system, settled, upload

STEPS = ("plan", "retrieve", "select", "answer", "verify")
TEXT = "The harbour wall of Porthgwarra was built in 1871. It is made of granite from the eastern quarry."
WORDS = [f"word{number} " for number in range(24)]
QUOTE = '<cite passage="1">It is made of granite from the eastern quarry.</cite>'
INVENTED = '<cite passage="1">Straw was carried here in nine carts by night.</cite>'
RUNS_AT_ONCE = 40
CLAIM_SECONDS = 5.0


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
        asked = {"question": "What is the wall made of?"}
        return {"agent": "answer", "input": asked, "budget": {"model_calls": 3}, **options}

    def prepare(self, *, repaired: bool) -> None:
        """The first answer of the next run is supported, or not."""
        self.chat.replies = [Reply(["Straw was it. ", Pause(0.3), INVENTED])] if repaired else []

    async def start(self, *, repaired: bool = False, **options: Any) -> str:
        self.prepare(repaired=repaired)
        answer = await self.client.post(self.runs, json=self.body(**options))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    @asynccontextmanager
    async def armed_worker(self, failpoint: str) -> AsyncIterator[None]:
        """A worker with a failpoint; when the block ends, it is killed, and another takes over."""
        worker = self.system.services["indexing"]
        await worker.stop()
        worker.env[VARIABLE] = failpoint
        await self.system.restart("indexing")
        try:
            yield
        finally:
            del worker.env[VARIABLE]
        worker.kill()
        assert await worker.wait() == -SIGKILL, worker.tail()
        await self.system.restart("indexing")

    async def stopped(self, *, repaired: bool = False, **options: Any) -> str:
        """A run that has come to the place where the worker's failpoint has it hang."""
        worker, mark = self.system.services["indexing"], str(uuid.uuid4())
        worker.say(mark)
        run_id = await self.start(repaired=repaired, **options)

        async def is_there() -> bool:
            return any("failpoint_reached" in line for line in worker.log[worker.log.index(mark) :])

        await eventually(is_there, within=stretched(30))
        return run_id

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


@asynccontextmanager
async def asking_in(folder: Path) -> AsyncIterator[Asking]:
    """A system of its own."""
    async with ChatDouble.serving() as chat:
        chat.script = slowly
        model = {"url": chat.url, "model": "test-model", "api_key": KEY, "max_tokens": 512, "concurrency": RUNS_AT_ONCE}
        variables = {
            "QUARRY_INDEXING_CHAT_MODELS": orjson.dumps({"writer": model}).decode(),
            "QUARRY_INDEXING_ANSWER_MODEL": "writer",
            "QUARRY_INDEXING_RUN_CLAIM_SECONDS": str(CLAIM_SECONDS),
            "QUARRY_INDEXING_RUN_CONCURRENCY": str(RUNS_AT_ONCE),
        }
        async with running_system(folder, durable=True, extra={"indexing": variables}) as system:
            _, client = await system.tenant("asking")
            project = await create_project(client)
            await upload(client, project, "wall.txt", TEXT.encode())
            await settled(client, project, 1)
            yield Asking(system, client, project, chat)
