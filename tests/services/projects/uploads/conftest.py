import httpx
import pytest

from tests.support.serving import StartedApp


@pytest.fixture
def app(running: tuple[StartedApp, httpx.AsyncClient]) -> StartedApp:
    return running[0]
