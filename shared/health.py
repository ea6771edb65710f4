"""`/healthz` (the process is alive) and `/readyz` (what it needs is there); for operators, not for clients."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

import aiohttp
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel
from redis.exceptions import RedisError

from shared.lifespan_state import from_lifespan

Check = Callable[[], Awaitable[None]]
"""One thing a process needs. Raises RuntimeError, OSError, RedisError or aiohttp.ClientError when it is not there."""


class Unready(RuntimeError):
    """Its own message says what is wrong."""


class Health(BaseModel):
    status: str
    checks: dict[str, str]


async def _checks(request: Request) -> Mapping[str, Check]:
    return from_lifespan(request, "checks", dict)


router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> Health:
    return Health(status="ok", checks={})


@router.get("/readyz")
async def readyz(response: Response, checks: Annotated[Mapping[str, Check], Depends(_checks)]) -> Health:
    results = {name: await _outcome(check) for name, check in checks.items()}
    ready = all(result == "ok" for result in results.values())
    response.status_code = 200 if ready else 503
    return Health(status="ok" if ready else "unavailable", checks=results)


async def _outcome(check: Check) -> str:
    try:
        async with asyncio.timeout(2):
            await check()
    except Unready as error:
        return str(error)
    except (RuntimeError, OSError, RedisError, aiohttp.ClientError) as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "ok"
