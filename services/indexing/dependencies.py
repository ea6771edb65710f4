"""Dependencies of indexing's routers, besides a principal and a session."""

import uuid
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from shared.http import CurrentPrincipal
from shared.project_access import ProjectDirectory
from shared.tenancy import Database


async def _directory(request: Request, project_id: uuid.UUID, principal: CurrentPrincipal) -> ProjectDirectory:
    """The directory, which knows the caller's access to the project in the URL.

    To be resolved before a session: a connection must not wait for another service.
    """
    directory: ProjectDirectory = request.app.state.directory
    database: Database = request.app.state.runtime.database
    if principal.tenant_id is not None:
        await directory.ensure_known(database, principal, tenant_id=principal.tenant_id, project_id=project_id)
    return directory


async def _wake(request: Request) -> Callable[[], None]:
    wake: Callable[[], None] = request.app.state.wake
    return wake


Directory = Annotated[ProjectDirectory, Depends(_directory)]
Wake = Annotated[Callable[[], None], Depends(_wake)]
