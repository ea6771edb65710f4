"""The attackers' process: `python -m tests.fairness.attacking NAME URL`, their keys on the first line of its input.

It writes `ready` when the attack is prepared, attacks from the second line of its input until the third, and then
writes what it did. It is kinder than other processes: on machines of their own, attackers would take no processor time
from the system.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from contextlib import AsyncExitStack
from typing import Final

import httpx
import uvloop

from tests.fairness.catalogue import scenarios
from tests.fairness.scenario import Attacker, Operation

_NICENESS: Final = 10
_PAUSE_AFTER_AN_ERROR: Final = 0.05


async def main(name: str, url: str) -> None:
    scenario = scenarios()[name]
    async with AsyncExitStack() as stack:
        attackers = [await _attacker(stack, url, key) for key in json.loads(await _line())]
        act = await stack.enter_async_context(scenario.attack(attackers))
        _tell("ready")
        await _line()
        done: Counter[str] = Counter()
        attacking = asyncio.create_task(_attack(act, done))
        try:
            told = asyncio.create_task(_line())
            await asyncio.wait((attacking, told), return_when=asyncio.FIRST_COMPLETED)
        finally:
            attacking.cancel()
            (outcome,) = await asyncio.gather(attacking, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome
        _tell(", ".join(f"{count} {what}" for what, count in done.items()) or "one round, cut off")


async def _attack(act: Operation, done: Counter[str]) -> None:
    while True:
        try:
            await act()
            done["rounds"] += 1
        except httpx.HTTPError as error:
            done[type(error).__name__] += 1
            await asyncio.sleep(_PAUSE_AFTER_AN_ERROR)


async def _attacker(stack: AsyncExitStack, url: str, key: str) -> Attacker:
    client = httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
    )
    return Attacker(url, key, await stack.enter_async_context(client))


async def _line() -> str:
    """A line of the input; at its end the process that started this one is gone, and so is its attack."""
    line: str = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        raise SystemExit("nobody measures any more")
    return line


def _tell(what: str) -> None:
    print(what, flush=True)


if __name__ == "__main__":
    os.nice(_NICENESS)
    uvloop.run(main(*sys.argv[1:]))
