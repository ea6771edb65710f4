"""Dependencies of indexing's routers, besides a principal and a session. That of search: `search.dependencies`."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from shared.current_principal import CurrentPrincipal
from shared.lifespan_state import resources_of
from shared.project_access import ProjectDirectory
from shared.tenancy import Database


@dataclass(frozen=True, slots=True)
class Resources:
    """What requests need of the running service. Made in `services.indexing.resources`."""

    database: Database
    directory: ProjectDirectory
    wake: Callable[[], None]


async def _directory(request: Request, project_id: uuid.UUID, principal: CurrentPrincipal) -> ProjectDirectory:
    """The directory, which knows the caller's access to the project in the URL.

    To be resolved before a session: a connection must not wait for another service.
    """
    own = resources_of(request, Resources)
    if principal.tenant_id is not None:
        await own.directory.ensure_known(own.database, principal, tenant_id=principal.tenant_id, project_id=project_id)
    return own.directory


async def _wake(request: Request) -> Callable[[], None]:
    return resources_of(request, Resources).wake


Directory = Annotated[ProjectDirectory, Depends(_directory)]
Wake = Annotated[Callable[[], None], Depends(_wake)]
