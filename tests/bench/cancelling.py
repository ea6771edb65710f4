"""How soon a run is over that is cancelled, in whatever step, or whose caller has lost access.

A step that is to be interrupted hangs at the end of its work, as one does that waits for a database or a model. A run
is over once its stream has ended for whoever follows it, and its worker has let go of it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import httpx

from tests.bench.measurements import tell
from tests.support.asking import STEPS, Asking, Heard, asking_in, listen
from tests.support.polling import eventually

TIMES: Final = 20
_REPAIR: Final = (("repair", 6), ("verify again", 7))
_EVERY: Final = 0.005


async def cancelling(folder: Path) -> None:
    folder.mkdir(parents=True)
    async with asking_in(folder) as asking:
        streams, workers = list[float](), list[float]()
        for step, number in (*((name, place) for place, name in enumerate(STEPS, start=1)), *_REPAIR):
            repaired = number > len(STEPS)
            async with asking.armed_worker(f"run.in_step=hang%{number}"):
                taken = [
                    await _over(asking, await asking.stopped(repaired=repaired), _cancel(asking)) for _ in range(TIMES)
                ]
                tell(f"cancel in {step}, to the end of the stream", [stream for stream, _ in taken])
            streams += [stream for stream, _ in taken]
            workers += [worker for _, worker in taken]
        tell("cancel in all steps, to the end of the stream", streams)
        tell("cancel in all steps, until the worker has let go", workers)
        tell("cancel in a model's stream, until that is closed", [await _in_a_stream(asking) for _ in range(TIMES)])
        await _access(asking)


async def _access(asking: Asking) -> None:
    """The key with which the run was started is revoked."""
    owner, taken = asking.client, list[tuple[float, float]]()
    async with asking.armed_worker("run.in_step=hang%4"):
        for _ in range(TIMES):
            made = (await owner.post("/v1/api-keys", json={"name": "guest", "scopes": ["search"]})).json()
            guest = Asking(asking.system, await asking.system.client(made["key"]), asking.project, asking.chat)
            run_id = await guest.stopped()

            async def revoke(_run_id: str, key_id: str = made["id"]) -> httpx.Response:
                return await owner.delete(f"/v1/api-keys/{key_id}")

            taken.append(await _over(guest, run_id, revoke))
            run = await asking.run(run_id)
            assert (run["status"], run["error"]["code"]) == ("cancelled", "access_removed")
    tell("access removed, to the end of the stream", [stream for stream, _ in taken])
    tell("access removed, until the worker has let go", [worker for _, worker in taken])


def _cancel(asking: Asking) -> Callable[[str], Awaitable[httpx.Response]]:
    return lambda run_id: asking.client.post(f"{asking.runs}/{run_id}/cancel")


async def _over(asking: Asking, run_id: str, end: Callable[[str], Awaitable[httpx.Response]]) -> tuple[float, float]:
    """Seconds until the stream has ended, and until the worker has let go."""
    heard, worker = Heard(), asking.system.services["indexing"]

    async def has_begun() -> bool:
        return bool(heard.numbers)

    async def is_let_go() -> bool:
        return any(run_id in line and ("claim_lost" in line or "run_ended" in line) for line in worker.log)

    async def seconds(over: Awaitable[object]) -> float:
        await over
        return time.perf_counter() - began

    async with asking.client.stream("GET", f"{asking.runs}/{run_id}/events") as answer:
        hearing = asyncio.create_task(listen(answer, heard))
        await eventually(has_begun)
        began = time.perf_counter()
        over = asyncio.gather(seconds(hearing), seconds(eventually(is_let_go, within=30, every=_EVERY)))
        assert (await end(run_id)).is_success
        stream, let_go = await over
        return stream, let_go


async def _in_a_stream(asking: Asking) -> float:
    run_id = await asking.start()

    async def is_writing() -> bool:
        return asking.chat.under_way == 1

    async def is_closed() -> bool:
        return asking.chat.under_way == 0

    await eventually(is_writing, every=_EVERY)
    began = time.perf_counter()
    assert (await _cancel(asking)(run_id)).is_success
    await eventually(is_closed, within=30, every=_EVERY)
    return time.perf_counter() - began
