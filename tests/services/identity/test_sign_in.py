"""Signing in: what works, and every way in which it must not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import text

from infra.local.stack import Stack
from services.identity.sessions.cookies import LOGIN, SESSION
from shared.tenancy import Database
from tests.services.identity.callers import PUBLIC_URL, Browser, somebody
from tests.services.identity.conftest import SignIn
from tests.services.identity.provider import StrictProvider

NewBrowser = Callable[[], Awaitable[Browser]]


async def test_a_sign_in_gives_a_session_that_works(new_browser: NewBrowser, provider: StrictProvider) -> None:
    browser, person = await new_browser(), somebody()
    answer = await browser.sign_in(provider, **person)
    assert answer.headers["location"] == "/"
    assert answer.headers["cache-control"] == "no-store"
    me = await browser.me()
    assert me["user"]["email"] == person["email"]
    assert me["user"]["email_verified"] is True
    assert me["tenant"] == {**me["tenants"][0], "name": person["name"], "role": "owner"}
    assert "tenant:admin" in me["scopes"]
    assert me["credential"]["kind"] == "session"
