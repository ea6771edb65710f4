"""Guards of the database and of the session that speaks to it."""

from tests.isolation.mutations.model import Mutation, replace

_TENANCY = "tests/shared/test_tenancy.py"
_SQL = "tests/isolation/test_sql.py"
_CATALOGUE = "tests/isolation/test_catalogue.py"
_MIGRATIONS = "shared/migrations.py"
_POLICY = 'f"USING (tenant_id = (SELECT {CURRENT_TENANT})) WITH CHECK (tenant_id = (SELECT {CURRENT_TENANT}))",'
_FORCED = '"ALTER TABLE %(table)s FORCE ROW LEVEL SECURITY",\n        f"CREATE POLICY tenant_isolation'
_ENABLED = '"ALTER TABLE %(table)s ENABLE ROW LEVEL SECURITY",\n        ' + _FORCED
_REACH = f"{_SQL}::test_another_tenants_rows_are_out_of_reach"

MUTATIONS = (
    Mutation(
        "session-criterion",
        "every ORM statement gets the tenant's criterion",
        replace(
            "shared/tenancy.py",
            "        state.statement = state.statement.options(\n"
            "            with_loader_criteria(TenantOwned, lambda cls: cls.tenant_id == tenant_id, "
            "include_aliases=True)\n        )\n",
            "        pass\n",
        ),
        [f"{_TENANCY}::test_the_criterion_alone_hides_other_tenants"],
    ),
    Mutation(
        "session-criterion-aliases",
        "the criterion reaches aliases of a table too",
        replace("shared/tenancy.py", "include_aliases=True", "include_aliases=False"),
        ["tests/shared/test_guards.py::test_the_criterion_reaches_every_shape_of_statement"],
    ),
    Mutation(
        "read-criterion",
        "a read without a session has the tenant's criterion in it",
        replace("shared/prepared_statements.py", "statement.options(criterion).compile(", "statement.compile("),
        ["tests/shared/test_prepared_statements.py::test_the_criterion_of_a_read_alone_hides_other_tenants"],
    ),
    Mutation(
        "read-bound",
        "a read without a session begins with its tenant",
        replace("shared/prepared_statements.py", "        begin_bound(connection, tenant_id)\n", ""),
        ["tests/shared/test_prepared_statements.py::test_a_read_finds_the_rows_of_its_tenant_alone"],
    ),
    Mutation(
        "session-core-select",
        "a SELECT that the criterion cannot reach is refused",
        replace(
            "shared/tenancy.py",
            '                return\n            raise UnguardedStatement("a tenant session takes ORM statements; '
            'see shared.tenancy")\n',
            "                return\n            return\n",
        ),
        [f"{_TENANCY}::test_a_statement_the_criterion_cannot_reach_is_refused"],
    ),
    Mutation(
        "session-core-text",
        "textual SQL is refused unless it states why it is safe",
        replace(
            "shared/tenancy.py",
            '    elif not (state.is_orm_statement or state.execution_options.get("tenant_guard")):',
            "    elif False:",
        ),
        [f"{_TENANCY}::test_a_statement_the_criterion_cannot_reach_is_refused"],
    ),
    Mutation(
        "session-flush",
        "rows of another tenant are refused before they are flushed",
        replace(
            "shared/tenancy.py",
            "if isinstance(row, TenantOwned) and row.tenant_id not in (None, tenant_id):",
            "if False:",
        ),
        [f"{_TENANCY}::test_the_session_refuses_a_row_of_another_tenant"],
    ),
    Mutation(
        "session-local",
        "the tenant is bound for one transaction, not for the connection",
        replace("shared/tenancy.py", "'{tenant_id}', true)", "'{tenant_id}', false)"),
        [
            f"{_TENANCY}::test_the_tenant_setting_ends_with_its_transaction",
            "tests/shared/test_prepared_statements.py::test_the_tenant_setting_ends_with_a_read",
        ],
    ),
    Mutation(
        "session-event-tenant",
        "an event is published for the tenant of its session",
        replace("shared/outbox.py", "    if bound not in (None, tenant_id):\n", "    if False:\n"),
        [f"{_TENANCY}::test_an_event_of_another_tenant_is_refused"],
    ),
    Mutation(
        "session-unused",
        "the tenant of a transaction that never began does not apply to the next one on the connection",
        replace("shared/db.py", '        driver.first_statement = ""\n', ""),
        [f"{_TENANCY}::test_the_tenant_of_a_transaction_that_never_began_is_forgotten"],
    ),
    Mutation(
        "session-fallback",
        "a session without a tenant has no default one",
        replace(
            "shared/tenancy.py",
            '        raise TenantMismatch("this session is bound to no tenant")',
            "        return uuid.UUID(int=0)",
        ),
        [f"{_TENANCY}::test_a_system_session_has_no_tenant_to_fall_back_on"],
    ),
    Mutation(
        "database-policy-read",
        "policies: only the bound tenant's rows can be read",
        replace(_MIGRATIONS, _POLICY, _POLICY.replace("USING (tenant_id = (SELECT {CURRENT_TENANT}))", "USING (true)")),
        [f"{_REACH}[notifier.feeds]"],
    ),
    Mutation(
        "database-policy-write",
        "policies: only the bound tenant's rows can be written",
        replace(
            _MIGRATIONS,
            _POLICY,
            _POLICY.replace("WITH CHECK (tenant_id = (SELECT {CURRENT_TENANT}))", "WITH CHECK (true)"),
        ),
        [f"{_REACH}[notifier.feeds]"],
    ),
    Mutation(
        "database-policy-role",
        "policies apply to the runtime role only",
        replace(
            _MIGRATIONS,
            'f"CREATE POLICY tenant_isolation ON %(table)s TO %(runtime)s "',
            'f"CREATE POLICY tenant_isolation ON %(table)s TO PUBLIC "',
        ),
        [f"{_CATALOGUE}::test_no_other_policy_exists"],
    ),
    Mutation(
        "database-enable",
        "Row Level Security is enabled",
        replace(_MIGRATIONS, _ENABLED, _FORCED),
        [f"{_REACH}[notifier.feeds]"],
    ),
    Mutation(
        "database-force",
        "Row Level Security is forced on a table's owner too",
        replace(_MIGRATIONS, _FORCED, _FORCED.partition("\n        ")[2]),
        [f"{_SQL}::test_an_owner_is_held_by_the_policies_too"],
    ),
    Mutation(
        "database-system-role",
        "only the system role has access across tenants",
        replace(
            _MIGRATIONS,
            "CREATE POLICY system_access ON %(table)s TO %(system)s",
            "CREATE POLICY system_access ON %(table)s TO PUBLIC",
        ),
        [f"{_REACH}[notifier.inbox]"],
    ),
    Mutation(
        "database-grants",
        "the runtime role gets the privileges it needs and no more",
        replace(_MIGRATIONS, '_grant(table, privileges, names["runtime"])', '_grant(table, "ALL", names["runtime"])'),
        [f"{_SQL}::test_each_role_has_the_privileges_it_is_known_to_need[notifier.inbox]"],
    ),
    Mutation(
        "database-version-table",
        "Alembic's own table is not accessible",
        replace(_MIGRATIONS, 'sa.text("ALTER TABLE alembic_version ENABLE ROW LEVEL SECURITY")', 'sa.text("SELECT 1")'),
        [f"{_CATALOGUE}::test_the_table_of_migrations_is_closed"],
    ),
    Mutation(
        "database-unique-key",
        "unique keys contain the tenant, so that a conflict reveals nothing",
        replace(
            "services/notifier/migrations/versions/0001_feeds.py",
            'sa.UniqueConstraint("tenant_id", "event_id", name=',
            'sa.UniqueConstraint("event_id", name=',
        ),
        [f"{_REACH}[notifier.feed_events]"],
    ),
    Mutation(
        "database-invalidation-positions",
        "positions of invalidations cannot be chosen by the writer",
        replace(
            _MIGRATIONS,
            'isolate("invalidations", privileges=f"SELECT, INSERT ({_OF_INVALIDATIONS})")',
            'isolate("invalidations", privileges="SELECT, INSERT")',
        ),
        [f"{_REACH}[identity.invalidations]"],
    ),
    Mutation(
        "database-outbox-positions",
        "positions of the outbox cannot be chosen by the writer",
        replace(_MIGRATIONS, '"REVOKE INSERT ON %(table)s FROM %(runtime)s"', '"SELECT 1"'),
        [f"{_REACH}[identity.outbox]"],
    ),
    Mutation(
        "database-users-policy",
        "a tenant can read the names of its own members only",
        replace(
            "services/identity/migrations/versions/0001_identity.py",
            '"USING (id IN (SELECT user_id FROM memberships WHERE role IS NOT NULL))"',
            '"USING (true)"',
        ),
        [f"{_SQL}::test_a_tenant_reads_the_names_of_its_own_members_alone"],
    ),
    Mutation(
        "database-users-columns",
        "a tenant can read only id, name and e-mail address of a member",
        replace(
            "services/identity/migrations/versions/0001_identity.py",
            "GRANT SELECT (id, name, email) ON users",
            "GRANT SELECT ON users",
        ),
        [f"{_SQL}::test_a_tenant_reads_the_names_of_its_own_members_alone"],
    ),
    Mutation(
        "database-bypass",
        "no role bypasses Row Level Security",
        replace("infra/postgres/bootstrap.py", "NOREPLICATION NOBYPASSRLS", "NOREPLICATION BYPASSRLS"),
        [f"{_CATALOGUE}::test_runtime_roles_own_nothing_and_bypass_nothing"],
    ),
    Mutation(
        "database-temporary",
        "no role can create temporary tables, which would shadow real ones",
        replace(
            "infra/postgres/bootstrap.py", '"REVOKE ALL ON DATABASE %I FROM PUBLIC"', '"COMMENT ON DATABASE %I IS NULL"'
        ),
        [f"{_SQL}::test_nobody_becomes_somebody_else_or_makes_anything[notifier]"],
    ),
    Mutation(
        "database-schemas",
        "no role may use the schema of another service",
        replace(
            "infra/postgres/bootstrap.py",
            '"REVOKE ALL ON SCHEMA %I FROM PUBLIC"',
            '"GRANT USAGE ON SCHEMA %I TO PUBLIC"',
        ),
        [f"{_CATALOGUE}::test_no_role_reaches_the_schema_of_another_service"],
    ),
    Mutation(
        "database-powerful-role",
        "a service refuses to run as a role that can bypass the policies",
        replace("shared/db.py", "if row.rolsuper or row.rolbypassrls or row.owns:", "if False:"),
        [f"{_TENANCY}::test_a_role_that_owns_its_tables_may_not_serve"],
    ),
    Mutation(
        "database-logged-values",
        "an error is logged without the values of its statement",
        replace("shared/db.py", "hide_parameters=True", "hide_parameters=False"),
        ["tests/shared/test_guards.py::test_an_error_of_sql_is_told_without_the_values"],
    ),
    Mutation(
        "queue-claim-lost",
        "a process that has lost its claim writes nothing for it",
        replace("shared/work_queue.py", 'due_at == bindparam("held_until"', 'due_at >= bindparam("held_until"'),
        ["tests/shared/test_work_queue.py::test_a_claim_that_has_ended_is_taken_over_and_who_lost_it_changes_nothing"],
    ),
    Mutation(
        "queue-claim-alone",
        "an item is claimed by one process at a time",
        replace("shared/work_queue.py", "            .with_for_update(skip_locked=True)\n", ""),
        ["tests/shared/test_work_queue.py::test_an_item_is_claimed_by_one_of_many"],
    ),
)
