"""Schema changes: Alembic per service, in the service's own schema, as its owner role.

`upgrade` applies what is missing. The rest are the operations a migration uses for what every table needs: isolation
by Row Level Security, the narrow system access of `shared.tenancy.SYSTEM_ACCESS`, and the tables every service has.
"""

import asyncio
from pathlib import Path

import sqlalchemy as sa
from alembic import command, context, op
from alembic.config import Config
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shared.tenancy import CURRENT_TENANT, SYSTEM_ACCESS
from shared.topology import BACKENDS

SERVICES_WITH_SCHEMA = BACKENDS
# All columns but the position. GENERATED ALWAYS alone can be overruled by OVERRIDING SYSTEM VALUE: a position ahead of
# all others would cover invalidations that are yet to come, and they would be acknowledged unseen.
_OF_INVALIDATIONS = "tenant_id, consumers, entry, created_at"
_OF_OUTBOX = (
    "id, tenant_id, type, subject, sequence, time, traceparent, correlation_id, causation_id, data, published_at, "
    "entry_id"
)
_ROOT = Path(__file__).resolve().parent.parent


def upgrade(service: str, owner_url: str, revision: str = "head") -> None:
    """Bring the schema of `service` to `revision`. Blocking; safe to run from several processes at once.

    Args:
        owner_url: SQLAlchemy URL (asyncpg) of the role `<service>_owner`.
    """
    config = Config()
    config.set_main_option("script_location", str(_ROOT / "services" / service / "migrations").replace("%", "%%"))
    config.attributes["service"] = service
    config.attributes["owner_url"] = owner_url
    command.upgrade(config, revision)


def run_env() -> None:
    """The whole of a service's `migrations/env.py`."""
    asyncio.run(_migrate(context.config.attributes["service"], context.config.attributes["owner_url"]))


async def _migrate(service: str, owner_url: str) -> None:
    engine = create_async_engine(
        owner_url,
        poolclass=NullPool,
        connect_args={"server_settings": {"search_path": service, "application_name": "migrate"}},
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_apply, service)
            await connection.commit()
    finally:
        await engine.dispose()


def _apply(connection: Connection, service: str) -> None:
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"migrate:{service}"))))
    context.configure(connection=connection, version_table="alembic_version", transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
    _close_version_table(connection)


def _close_version_table(connection: Connection) -> None:
    """Alembic's own table holds a revision, no tenant's data; no role but the owner may see it."""
    connection.execute(sa.text("ALTER TABLE alembic_version ENABLE ROW LEVEL SECURITY"))


# --- operations for migrations ---------------------------------------------------------------------------------------


def tenant_column() -> sa.Column[object]:
    """`tenant_id`, stamped from the transaction's tenant."""
    return sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=sa.text(CURRENT_TENANT))


def id_column() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid(), nullable=False, server_default=sa.text("uuidv7()"))


def moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    """A `timestamptz`; defaults to now unless nullable."""
    default = None if nullable else sa.text("now()")
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def isolate(table: str, *, privileges: str = "SELECT, INSERT, UPDATE, DELETE") -> None:
    """Force Row Level Security on `table`: the runtime role sees and writes the bound tenant's rows, and only those.

    `tenant_id` is compared with the transaction's setting, evaluated once per statement; unset or empty means no row.
    """
    names = _names(table)
    for statement in (
        "ALTER TABLE %(table)s ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE %(table)s FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY tenant_isolation ON %(table)s TO %(runtime)s "
        f"USING (tenant_id = (SELECT {CURRENT_TENANT})) WITH CHECK (tenant_id = (SELECT {CURRENT_TENANT}))",
    ):
        _execute(statement, names)
    _grant(table, privileges, names["runtime"])


def open_to_system(table: str, privileges: str) -> None:
    """Let the system role use `table` across tenants. `SYSTEM_ACCESS` lists the table and its reason.

    Raises:
        KeyError: the table is not listed there.
    """
    reason = SYSTEM_ACCESS[f"{_service()}.{table}"]
    names = {**_names(table), "reason": reason.replace("'", "''")}
    for statement in (
        "ALTER TABLE %(table)s ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE %(table)s FORCE ROW LEVEL SECURITY",
        "CREATE POLICY system_access ON %(table)s TO %(system)s USING (true) WITH CHECK (true)",
        "COMMENT ON POLICY system_access ON %(table)s IS '%(reason)s'",
    ):
        _execute(statement, names)
    _grant(table, privileges, names["system"])


def create_backbone() -> None:
    """Outbox, relay state, inbox and dead letters, as `shared.outbox`, `shared.relay`, `shared.inbox` and
    `shared.dead_letters` map them."""
    op.create_table(
        "outbox",
        id_column(),
        tenant_column(),
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")),
        sa.Column("traceparent", sa.Text()),
        sa.Column("correlation_id", sa.Text()),
        sa.Column("causation_id", sa.Text()),
        sa.Column("data", JSONB(), nullable=False),
        moment("published_at", nullable=True),
        sa.Column("entry_id", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("position", name="uq_outbox_position"),
    )
    op.create_index("ix_outbox_unpublished", "outbox", ["position"], postgresql_where=sa.text("published_at IS NULL"))
    op.create_index("ix_outbox_published_at", "outbox", ["published_at"])
    isolate("outbox", privileges="SELECT, INSERT")
    open_to_system("outbox", "SELECT, UPDATE, DELETE")
    op.create_table(
        "relay_state",
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("stream", name="pk_relay_state"),
    )
    open_to_system("relay_state", "SELECT, INSERT, UPDATE")
    op.create_table(
        "inbox",
        tenant_column(),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("handler", sa.Text(), nullable=False),
        moment("processed_at"),
        sa.PrimaryKeyConstraint("tenant_id", "event_id", "handler", name="pk_inbox"),
    )
    op.create_index("ix_inbox_processed_at", "inbox", ["processed_at"])
    isolate("inbox", privileges="SELECT, INSERT")
    open_to_system("inbox", "SELECT, DELETE")
    op.create_table(
        "dead_letters",
        id_column(),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("consumer_group", sa.Text(), nullable=False),
        sa.Column("handler", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Uuid()),
        sa.Column("event_id", sa.Uuid()),
        sa.Column("event_type", sa.Text()),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        moment("created_at"),
        moment("redriven_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_dead_letters"),
        sa.UniqueConstraint("stream", "entry_id", "handler", name="uq_dead_letters_stream_entry_id_handler"),
    )
    open_to_system("dead_letters", "SELECT, INSERT, UPDATE, DELETE")


def make_dead_letters_redrivable() -> None:
    """What `shared.redrive` stores with a dead letter, and the indexes that lists and workers read by."""
    for column in (
        moment("redrive_requested_at", nullable=True),
        sa.Column("redrive_starts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        moment("redrive_leased_until", nullable=True),
        sa.Column("redrives", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("last_reason", sa.Text()),
        moment("last_failed_at", nullable=True),
    ):
        op.add_column("dead_letters", column)
    op.create_index(
        "ix_dead_letters_open", "dead_letters", ["created_at", "id"], postgresql_where=sa.text("redriven_at IS NULL")
    )
    op.create_index(
        "ix_dead_letters_waiting",
        "dead_letters",
        ["redrive_requested_at", "id"],
        postgresql_where=sa.text("redrive_requested_at IS NOT NULL"),
    )
    op.create_index("ix_dead_letters_event_id", "dead_letters", ["event_id"])


def number_memberships_of_roles() -> None:
    """`shared.project_access.ProjectAccess.membership_number`."""
    number = sa.Column("membership_number", sa.Integer(), nullable=False, server_default=sa.text("1"))
    op.add_column("project_access", number)


def create_invalidations() -> None:
    """What a service tells holders of copies, as `shared.invalidations.models` maps it."""
    op.create_table(
        "invalidations",
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        tenant_column(),
        sa.Column("consumers", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        moment("created_at"),
        sa.PrimaryKeyConstraint("position", name="pk_invalidations"),
    )
    op.create_index("ix_invalidations_created_at", "invalidations", ["created_at"])
    isolate("invalidations", privileges=f"SELECT, INSERT ({_OF_INVALIDATIONS})")
    _let_positions_of_the_outbox_be_generated()
    open_to_system("invalidations", "SELECT, INSERT, DELETE")
    op.create_table(
        "copy_leases",
        sa.Column("holder", sa.Uuid(), nullable=False),
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("acknowledged", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("released", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("holder", name="pk_copy_leases"),
    )
    open_to_system("copy_leases", "SELECT, INSERT, UPDATE, DELETE")


def _let_positions_of_the_outbox_be_generated() -> None:
    names = _names("outbox")
    _execute("REVOKE INSERT ON %(table)s FROM %(runtime)s", names)
    _grant("outbox", f"INSERT ({_OF_OUTBOX})", names["runtime"])


def _service() -> str:
    service: str = context.config.attributes["service"]
    return service


def _names(table: str) -> dict[str, str]:
    quote = op.get_bind().dialect.identifier_preparer.quote
    return {"table": quote(table), "runtime": quote(_service()), "system": quote(f"{_service()}_system")}


def _grant(table: str, privileges: str, role: str) -> None:
    statement = "GRANT %(privileges)s ON %(table)s TO %(role)s"
    _execute(statement, {"table": _names(table)["table"], "privileges": privileges, "role": role})


def _execute(statement: str, names: dict[str, str]) -> None:
    """Run DDL whose names were quoted by the dialect: identifiers cannot be bound as parameters."""
    op.execute(sa.DDL(statement, context=names))  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


def create_access_projection() -> None:
    """Projects and roles as last known, as `shared.project_access` maps them."""
    op.create_table(
        "known_projects",
        tenant_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "project_id", name="pk_known_projects"),
    )
    isolate("known_projects")
    op.create_table(
        "project_access",
        tenant_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text()),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "project_id", "user_id", name="pk_project_access"),
    )
    isolate("project_access")
