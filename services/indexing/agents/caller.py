"""Whom a run acts as: its caller, with the rights they have now, asked of identity and of the project's owner."""

import asyncio
import math
import uuid
from typing import Final

from shared.auth import Principal, Scope
from shared.authority_client import Authority
from shared.errors import Forbidden, NotFound, Unauthenticated
from shared.project_access import ProjectDirectory
from shared.tenancy import Database

CHECK_SECONDS: Final = 2.0
"""What was asked counts for so long."""


class AccessRemoved(Exception):
    """The caller may not search the project any more."""


class Caller:
    """Of one run while a worker has it. `principal` is the caller as last checked; `verified` has the first check wait,
    as just after the token was checked with which the run was started."""

    def __init__(
        self,
        database: Database,
        authority: Authority,
        directory: ProjectDirectory,
        principal: Principal,
        *,
        tenant_id: uuid.UUID,
        project_id: uuid.UUID,
        verified: bool,
    ) -> None:
        self._database = database
        self._authority = authority
        self._directory = directory
        self._tenant_id = tenant_id
        self._project_id = project_id
        self._checked_at = asyncio.get_running_loop().time() if verified else -math.inf
        self.principal = principal

    @property
    def is_stale(self) -> bool:
        """Whether a check is due."""
        return asyncio.get_running_loop().time() - self._checked_at > CHECK_SECONDS

    async def check(self) -> None:
        """Ask what the caller may do now.

        Raises:
            AccessRemoved: not search this project.
            Unavailable: it cannot be told.
        """
        known = {"tenant_id": self._tenant_id, "project_id": self._project_id}
        try:
            principal = await self._authority.now(self.principal)
            await self._directory.ensure_known(self._database, principal, **known)
            async with self._database.tenant(self._tenant_id) as session:
                await self._directory.require(session, principal, project_id=self._project_id, scope=Scope.SEARCH)
        except (Unauthenticated, NotFound, Forbidden) as error:
            raise AccessRemoved from error
        self.principal, self._checked_at = principal, asyncio.get_running_loop().time()
