"""Questions to other services: put again where the first replica says nothing."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from shared import service_client

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
_AWAY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with service_client.new_session() as session:
        yield session


@asynccontextmanager
async def _answering(*answers: bytes | None) -> AsyncIterator[tuple[str, list[str]]]:
    """A service whose answers are these, one after the other, the last again and again; None is silence. Gives its URL
    and the request lines it got."""
    asked: list[str] = []
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n")).decode().strip())
        answer = answers[min(len(asked), len(answers)) - 1]
        if answer is None:
            await ended.wait()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
        ended.set()


@pytest.mark.parametrize("first", [b"", _AWAY, None])
async def test_a_question_without_an_answer_is_put_again(
    client: aiohttp.ClientSession, first: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_client, "ATTEMPT_SECONDS", 0.3)
    async with _answering(first, _OK) as (url, asked):
        assert await service_client.ask(client, "GET", f"{url}/x") == (200, b"{}")
    assert asked == ["GET /x HTTP/1.1"] * 2


async def test_a_neighbour_that_is_away_says_so_in_the_end(client: aiohttp.ClientSession) -> None:
    async with _answering(_AWAY) as (url, asked):
        assert await service_client.ask(client, "GET", url) == (503, b"")
    assert len(asked) == 3


async def test_an_answer_that_is_an_error_stands(client: aiohttp.ClientSession) -> None:
    async with _answering(_OK.replace(b"200 OK", b"404 Not Found")) as (url, asked):
        assert await service_client.ask(client, "POST", url, json={}) == (404, b"{}")
    assert len(asked) == 1


async def test_a_neighbour_that_is_silent_for_good_is_given_up(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_client, "WITHIN_SECONDS", 0.3)
    async with _answering(None) as (url, _):
        with pytest.raises(TimeoutError):
            await service_client.ask(client, "GET", url)


async def test_a_neighbour_that_nobody_is_refuses(client: aiohttp.ClientSession) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        with pytest.raises(aiohttp.ClientConnectorError):
            await service_client.ask(client, "GET", f"http://127.0.0.1:{listener.getsockname()[1]}")


async def test_no_connection_is_kept_that_might_lead_nowhere(client: aiohttp.ClientSession) -> None:
    async with _answering(_OK) as (url, _):
        await service_client.ask(client, "GET", url)
        assert client.connector is not None
        assert not client.connector._conns
