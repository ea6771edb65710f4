"""What the routers of indexing ask for besides a principal and a session."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from services.indexing.search.service import SearchEngine
from shared.access import ProjectDirectory


def _directory(request: Request) -> ProjectDirectory:
    directory: ProjectDirectory = request.app.state.directory
    return directory


def _search_engine(request: Request) -> SearchEngine:
    engine: SearchEngine = request.app.state.search
    return engine


def _wake(request: Request) -> Callable[[], None]:
    wake: Callable[[], None] = request.app.state.wake
    return wake


Directory = Annotated[ProjectDirectory, Depends(_directory)]
Search = Annotated[SearchEngine, Depends(_search_engine)]
Wake = Annotated[Callable[[], None], Depends(_wake)]
