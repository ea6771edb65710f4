"""Ending streams whose access was revoked, on every replica, within 5 s.

`events.identity` and `events.projects` are read without a group, so every replica gets every revocation and ends the
streams it concerns at once. A client may come back before the projection of access, or the gateway's cache, is
updated: the same streams are therefore checked again for a minute, those of projects by asking the directory.
Fails by: asking again. After a gap in `events.projects` every open stream is checked; after one in `events.identity`,
where no service can be asked, every stream ends within half a minute and its client is authenticated anew.
"""

import asyncio
import sys
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy.exc import SQLAlchemyError

from services.notifier.feeds.repository import FeedKey
from services.notifier.streams import access
from services.notifier.streams.connection import Connection
from services.notifier.streams.connections import Connections
from shared.auth import Principal
from shared.errors import Forbidden, NotFound, Unavailable
from shared.events.envelope import Envelope, Event, Undecodable
from shared.events.identity import ApiKeyRevoked, MembershipChanged, SessionRevoked, TenantDeleted
from shared.events.projects import ProjectCreated, ProjectDeleted, ProjectMemberChanged, ProjectRestored
from shared.fair_semaphore import FairSemaphore
from shared.project_access import ProjectDirectory
from shared.telemetry import get_logger
from shared.tenancy import Database

RENEW_WITHIN = 30.0
_LOOK_SECONDS = 0.25
# How many streams are checked before the event loop gets a turn.
_LOOKED_AT_ONCE: Final = 500
_ASKER: Final = "revocations"
_ASKED_AT_ONCE: Final = 4
_AFTER_REVOCATION: Final = (2.0,)
# Long enough for `project.deleted` to reach the subscribers.
_AFTER_DELETION: Final = (1.0,)
_UNTIL_SETTLED: Final = (0.25, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_log = get_logger(__name__)

Concerns = Callable[[Connection], bool]


@dataclass(slots=True)
class _Look:
    """A later check of the streams an event concerns: they end, with `ask` only if the directory reports a change."""

    at: float
    tenant_id: uuid.UUID
    concerns: Concerns
    ask: bool


class Revocations:
    """Reads revocations and ends streams."""

    def __init__(self, connections: Connections, database: Database, directory: ProjectDirectory) -> None:
        self._connections = connections
        self._database = database
        self._directory = directory
        self._looks: list[_Look] = []
        # Looks that are due, by tenant, and the tasks that take them.
        self._due: dict[uuid.UUID, list[_Look]] = {}
        self._at_work: dict[uuid.UUID, asyncio.Task[None]] = {}
        self._asking = FairSemaphore(_ASKED_AT_ONCE, each=1, waiting=sys.maxsize, waiting_in_all=sys.maxsize)
        self._check_all = False
        self._rules: dict[str, Callable[[Any, Envelope], None]] = {
            SessionRevoked.type: self._on_credential_revoked,
            ApiKeyRevoked.type: self._on_credential_revoked,
            MembershipChanged.type: self._on_membership_changed,
            TenantDeleted.type: self._on_tenant_deleted,
            ProjectCreated.type: self._on_visibility_changed,
            ProjectRestored.type: self._on_visibility_changed,
            ProjectDeleted.type: self._on_project_deleted,
            ProjectMemberChanged.type: self._on_member_changed,
        }

    def hear(self, stream: str, _entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        """With the name of either stream bound, a reader of it for `shared.stream_tail.follow`."""
        raw = fields.get(b"event", b"")
        try:
            rule = self._rules.get(orjson.loads(raw)["type"])
            if rule is not None:
                envelope = Envelope.from_stream(raw, stream)
                rule(envelope.payload(), envelope)
        except (Undecodable, orjson.JSONDecodeError, KeyError, TypeError) as error:
            # The consumer of this stream quarantines such an entry.
            _log.warning("event_undecodable", reason=str(error)[:200])

    def on_projects_gap(self) -> None:
        self._check_all = True

    def on_identity_gap(self) -> None:
        self._connections.renew(RENEW_WITHIN)

    # --- what each event means ---------------------------------------------------------------------------------------

    def _on_credential_revoked(self, event: SessionRevoked | ApiKeyRevoked, envelope: Envelope) -> None:
        credential_id = event.session_id if isinstance(event, SessionRevoked) else event.api_key_id

        def concerns(connection: Connection) -> bool:
            # A session follows its user from tenant to tenant; a key belongs to one.
            anywhere = isinstance(event, SessionRevoked) or connection.key.tenant_id == envelope.tenantid
            return connection.principal.credential_id == credential_id and anywhere

        for connection in filter(concerns, self._connections):
            connection.end("signed out", at_once=True)
        self._look_later(_AFTER_REVOCATION, envelope.tenantid, concerns, ask=False)

    def _on_membership_changed(self, event: MembershipChanged, envelope: Envelope) -> None:
        def has_another_role(connection: Connection) -> bool:
            principal = connection.principal
            return principal.user_id == event.user_id and principal.tenant_role != event.role

        # A stream opened with the role that the event reports, such as a new tenant's first, goes on.
        self._end(envelope.tenantid, has_another_role)

    def _on_tenant_deleted(self, event: TenantDeleted, envelope: Envelope) -> None:
        if event.tenant_id != envelope.tenantid:
            _log.warning("event_about_another_tenant", type=envelope.type, event_id=str(envelope.id))
            return
        self._end(envelope.tenantid, lambda connection: True)

    def _on_visibility_changed(self, event: Event, envelope: Envelope) -> None:
        self._look_later(_UNTIL_SETTLED, envelope.tenantid, _is_selective, ask=True)

    def _on_project_deleted(self, event: ProjectDeleted, envelope: Envelope) -> None:
        def concerns(connection: Connection) -> bool:
            return connection.key.project_id == event.project_id or _is_selective(connection)

        def follows(connection: Connection) -> bool:
            return connection.key.project_id == event.project_id

        self._look_later(_AFTER_DELETION, envelope.tenantid, follows, ask=False)
        settled = [delay for delay in _UNTIL_SETTLED if delay > _AFTER_DELETION[0]]
        self._look_later(settled, envelope.tenantid, concerns, ask=True)

    def _on_member_changed(self, event: ProjectMemberChanged, envelope: Envelope) -> None:
        def concerns(connection: Connection) -> bool:
            principal, key = connection.principal, connection.key
            mine = principal.user_id == event.user_id and not principal.is_tenant_admin
            return mine and (key.is_tenant_wide or key.project_id == event.project_id)

        if event.role is None:
            for connection in filter(concerns, self._connections.of_tenant(envelope.tenantid)):
                connection.end("access changed", at_once=True)
        self._look_later(_UNTIL_SETTLED, envelope.tenantid, concerns, ask=True)

    def _end(self, tenant_id: uuid.UUID, concerns: Concerns) -> None:
        for connection in filter(concerns, self._connections.of_tenant(tenant_id)):
            connection.end("access changed", at_once=True)
        self._look_later(_AFTER_REVOCATION, tenant_id, concerns, ask=False)

    def _look_later(self, delays: Iterable[float], tenant_id: uuid.UUID, concerns: Concerns, *, ask: bool) -> None:
        now = asyncio.get_running_loop().time()
        self._looks.extend(_Look(now + delay, tenant_id, concerns, ask) for delay in delays)

    # --- looking again -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look again when it is time, until cancelled. One tenant's streams do not delay another's."""
        try:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                now = asyncio.get_running_loop().time()
                for look in self._looks:
                    if look.at <= now:
                        self._due.setdefault(look.tenant_id, []).append(look)
                self._looks = [look for look in self._looks if look.at > now]
                if self._check_all:
                    self._check_all = False
                    for tenant_id in self._connections.tenants():
                        self._due.setdefault(tenant_id, []).append(_Look(now, tenant_id, _everybody, ask=True))
                for tenant_id in self._due.keys() - self._at_work.keys():
                    self._at_work[tenant_id] = asyncio.create_task(self._look(tenant_id), name="looking again")
        finally:
            tasks = list(self._at_work.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, tenant_id: uuid.UUID) -> None:
        try:
            while looks := self._due.pop(tenant_id, None):
                # Equal looks, of many events at a time, count as one.
                wanted = dict.fromkeys((look.concerns, look.ask) for look in looks)
                connections = self._connections.of_tenant(tenant_id)
                doubtful: set[Connection] = set()
                looked = 0
                for concerns, ask in wanted:
                    for connection in connections:
                        if concerns(connection):
                            if ask:
                                doubtful.add(connection)
                            else:
                                connection.end("access changed", at_once=True)
                        looked += 1
                        if looked % _LOOKED_AT_ONCE == 0:
                            await asyncio.sleep(0)
                await self._check(doubtful)
        except Exception:  # noqa: BLE001  # of one tenant; the others are looked at
            _log.exception("streams_not_looked_at", tenant_id=str(tenant_id))
        finally:
            del self._at_work[tenant_id]

    async def _check(self, doubtful: Iterable[Connection]) -> None:
        """Ask the directory once for each caller and feed."""
        groups: defaultdict[tuple[Principal, FeedKey], list[Connection]] = defaultdict(list)
        for connection in doubtful:
            if connection.ending is None:
                groups[connection.principal, connection.key].append(connection)
        for (principal, key), connections in groups.items():
            try:
                visible = await self._visible(principal, key)
                ended = [connection for connection in connections if connection.visible != visible]
            except (NotFound, Forbidden):
                ended = connections
            except (Unavailable, SQLAlchemyError, OSError) as error:
                _log.warning("access_unknown", tenant_id=str(key.tenant_id), reason=str(error)[:200])
                self._look_later((1.0,), key.tenant_id, _one_of(connections), ask=True)
                continue
            for connection in ended:
                connection.end("access changed", at_once=True)

    async def _visible(self, principal: Principal, key: FeedKey) -> frozenset[uuid.UUID] | None:
        # With a turn of its own: a tenant's clients that ask about unknown projects delay no revocation.
        async with self._asking.turn(key.tenant_id):
            await access.ensure_known(self._database, principal, self._directory, key, asker=_ASKER)
            async with self._database.tenant(key.tenant_id) as session:
                return await access.require(session, principal, self._directory, key)


def _everybody(_connection: Connection) -> bool:
    return True


def _is_selective(connection: Connection) -> bool:
    """Follows a whole tenant and sees some of its projects only."""
    return connection.key.is_tenant_wide and connection.visible is not None


def _one_of(connections: list[Connection]) -> Concerns:
    asked = frozenset(connections)
    return lambda connection: connection in asked
