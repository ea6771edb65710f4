"""Guards of feeds and streams."""

from tests.isolation.mutations.model import Mutation, replace

_HERE = "services/notifier"
_STREAMS = "tests/services/notifier/test_streams.py"
_REVOCATIONS = "tests/services/notifier/test_revocations.py"
_EVENTS = "tests/isolation/test_events.py"
_FEEDS = "tests/services/notifier/test_feeds.py"

MUTATIONS = (
    Mutation(
        "stream-access",
        "a stream checks the caller's role in the project",
        replace(
            f"{_HERE}/streams/access.py",
            "        await directory.require(session, principal, project_id=project_id, scope=scope)\n",
            "",
        ),
        [f"{_STREAMS}::test_a_member_needs_a_role_in_the_project"],
    ),
    Mutation(
        "stream-run-scope",
        "a run is followed by who may search, not by who may read events",
        replace(
            f"{_HERE}/streams/access.py",
            "scope = Scope.SEARCH if key.is_run else Scope.EVENTS_READ",
            "scope = Scope.EVENTS_READ",
        ),
        ["tests/services/notifier/test_runs.py::test_to_follow_a_run_takes_the_right_to_search"],
    ),
    Mutation(
        "stream-run-exists",
        "a stream of a run opens only if indexing says that the run is in the project",
        replace(
            f"{_HERE}/streams/followed_runs.py",
            "                if status == 404:\n                    raise NotFound\n",
            "                if status == 404:\n"
            '                    return FollowedRun(run={"status": "running", "on_disconnect": ""}, last_sequence=0)\n',
        ),
        ["tests/services/notifier/test_runs.py::test_a_run_of_another_tenant_and_a_missing_one_are_the_same_404"],
    ),
    Mutation(
        "stream-scope",
        "the tenant's stream requires the scope to read events",
        replace(f"{_HERE}/streams/access.py", "    if Scope.EVENTS_READ not in principal.limit:\n", "    if False:\n"),
        [f"{_STREAMS}::test_a_credential_needs_the_scope"],
    ),
    Mutation(
        "stream-tied",
        "a key limited to one project can stream only that project",
        replace(f"{_HERE}/streams/access.py", "    if principal.project_id is not None:\n", "    if False:\n"),
        [f"{_STREAMS}::test_a_key_tied_to_a_project_sees_that_project_only"],
    ),
    Mutation(
        "stream-members",
        "in the tenant's stream a member sees only their own projects",
        replace(
            f"{_HERE}/streams/access.py",
            "    if principal.is_tenant_admin:\n        return EVERYTHING\n    directory.check(key.tenant_id)\n",
            "    return EVERYTHING\n",
        ),
        [f"{_STREAMS}::test_a_member_sees_its_own_projects_live_and_replayed"],
    ),
    Mutation(
        "stream-members-user",
        "a member sees only projects with a role of their own",
        replace(
            f"{_HERE}/streams/access.py",
            ".where(held_by(principal), ProjectAccess.role.is_not(None), KnownProject.active)",
            ".where(ProjectAccess.role.is_not(None), KnownProject.active)",
        ),
        ["tests/services/notifier/test_guards.py::test_the_projects_of_other_members_are_not_a_members_own"],
    ),
    Mutation(
        "stream-replay-visible",
        "replay includes only visible projects",
        replace(
            f"{_HERE}/feeds/repository.py",
            "        statement = statement.where(FeedEvent.project_id.in_(visible))\n",
            "        pass\n",
        ),
        [f"{_STREAMS}::test_a_member_sees_its_own_projects_live_and_replayed"],
    ),
    Mutation(
        "stream-replay-project",
        "replay of a project's stream includes only that project",
        replace(
            f"{_HERE}/feeds/repository.py",
            "        statement = statement.where(FeedEvent.project_id == key.feed_id)\n",
            "        pass\n",
        ),
        [
            f"{_STREAMS}::test_a_client_resumes_exactly_after_the_id_it_names",
            "tests/services/notifier/test_guards.py::test_a_replay_is_one_projects",
        ],
    ),
    Mutation(
        "stream-live-visible",
        "live events include only visible projects",
        replace(
            f"{_HERE}/streams/connection.py",
            "return self.visible is None or frame.project_id is None or frame.project_id in self.visible",
            "return True",
        ),
        ["tests/services/notifier/test_connection.py::test_other_projects_are_not_shown_to_a_member"],
    ),
    Mutation(
        "stream-tenant-feed",
        "the tenant's own feed is not opened as if it were a project",
        replace(f"{_HERE}/streams/service.py", "    if project_id == tenant_id:\n", "    if False:\n"),
        ["tests/services/notifier/test_guards.py::test_the_tenants_feed_is_no_project"],
    ),
    Mutation(
        "stream-event-id",
        "an event id is a number",
        replace(
            f"{_HERE}/streams/service.py", "    if not _EVENT_ID.fullmatch(value):\n        raise InvalidEventId\n", ""
        ),
        [f"{_STREAMS}::test_a_malformed_id_is_refused"],
    ),
    Mutation(
        "stream-limit",
        "the number of streams of a caller and of a tenant is limited",
        replace(
            f"{_HERE}/streams/connections.py",
            "if len(of_tenant) >= settings.max_streams_per_tenant or self._by_caller[caller] >= (\n            settings.max_streams_per_caller\n        ):",
            "if False:",
        ),
        [f"{_STREAMS}::test_there_are_only_so_many_streams"],
    ),
    Mutation(
        "stream-progress-tenant",
        "progress reaches only streams of its own tenant",
        replace(
            f"{_HERE}/streams/progress_ticks.py",
            "    channels = (hub.channel(FeedKey(tenant_id, feed_id)) for feed_id in (project_id, tenant_id))\n",
            "    channels = (found for key, found in hub._channels.items() if key.feed_id in (project_id, tenant_id))\n",
        ),
        [f"{_EVENTS}::test_progress_under_another_tenant_reaches_nobody"],
    ),
    Mutation(
        "stream-progress-project",
        "progress reaches only streams of its own project",
        replace(
            f"{_HERE}/streams/progress_ticks.py",
            "    channels = (hub.channel(FeedKey(tenant_id, feed_id)) for feed_id in (project_id, tenant_id))\n",
            "    channels = (found for key, found in hub._channels.items() if key.tenant_id == tenant_id)\n",
        ),
        [f"{_STREAMS}::test_progress_carries_no_id_and_reaches_its_project_only"],
    ),
    Mutation(
        "stream-facts",
        "a feed contains only the fields on an allowlist",
        replace(f"{_HERE}/feeds/handlers.py", 'include={"document_id", *shown.facts}', "include=None"),
        [f"{_FEEDS}::test_a_feed_tells_facts_and_no_more"],
    ),
    Mutation(
        "revocation-credential",
        "a revoked credential ends its streams",
        replace(
            f"{_HERE}/streams/revocations.py",
            '        for connection in filter(concerns, self._connections):\n            connection.end("signed out", at_once=True)\n        self._look_later(_AFTER_REVOCATION, envelope.tenantid, concerns, ask=False)\n',
            "        return\n",
        ),
        [f"{_REVOCATIONS}::test_a_revoked_credential_ends_its_streams_and_no_others"],
    ),
    Mutation(
        "revocation-again",
        "a stream reopened with an old token ends again",
        replace(
            f"{_HERE}/streams/revocations.py", "_AFTER_REVOCATION: Final = (2.0,)", "_AFTER_REVOCATION: Final = ()"
        ),
        [f"{_REVOCATIONS}::test_a_stream_reopened_with_a_token_from_before_ends_again"],
    ),
    Mutation(
        "revocation-membership",
        "a user who leaves a tenant loses their streams",
        replace(
            f"{_HERE}/streams/revocations.py",
            "        self._end(envelope.tenantid, has_another_role)\n",
            "        return\n",
        ),
        [f"{_REVOCATIONS}::test_a_stream_with_the_role_the_event_tells_of_goes_on"],
    ),
    Mutation(
        "revocation-tenant",
        "a deleted tenant's streams end",
        replace(f"{_HERE}/streams/revocations.py", "            TenantDeleted.type: self._on_tenant_deleted,\n", ""),
        [f"{_REVOCATIONS}::test_a_deleted_tenants_streams_end"],
    ),
    Mutation(
        "revocation-member",
        "a user who loses a role in a project loses their streams there",
        replace(
            f"{_HERE}/streams/revocations.py", "            ProjectMemberChanged.type: self._on_member_changed,\n", ""
        ),
        [f"{_REVOCATIONS}::test_a_removed_member_is_cut_off_on_every_replica"],
    ),
    Mutation(
        "revocation-gap",
        "after missed events every stream is checked",
        replace(f"{_HERE}/streams/revocations.py", "        self._check_all = True\n", "        return\n"),
        [f"{_REVOCATIONS}::test_after_a_gap_in_projects_everybody_is_checked"],
    ),
    Mutation(
        "revocation-identity-gap",
        "after missed events of identity every stream is renewed",
        replace(
            f"{_HERE}/streams/revocations.py", "        self._connections.renew(RENEW_WITHIN)\n", "        return\n"
        ),
        [f"{_REVOCATIONS}::test_after_a_gap_in_identity_every_stream_is_renewed"],
    ),
    Mutation(
        "notifier-erasure-tenant",
        "an event can delete only the tenant of its envelope",
        replace(f"{_HERE}/feeds/handlers.py", "    if event.tenant_id != envelope.tenantid:\n", "    if False:\n"),
        [f"{_EVENTS}::test_an_event_about_another_tenants_things_changes_nothing[notifier-identity.tenant.deleted.v1]"],
    ),
    Mutation(
        "notifier-tombstone",
        "nothing is appended for a deleted tenant",
        replace(
            f"{_HERE}/feeds/repository.py",
            "        exists(DeletedTenant.tenant_id).where(DeletedTenant.tenant_id == tenant_id),\n",
            "",
        ),
        [f"{_FEEDS}::test_a_deleted_tenant_is_forgotten_and_nothing_of_it_is_kept_later"],
    ),
    Mutation(
        "notifier-tombstone-waits",
        "the tombstone of a tenant waits for what is being appended",
        replace(
            f"{_HERE}/feeds/repository.py",
            '    await session.execute(\n        held.on_conflict_do_update(index_elements=["tenant_id", "feed_id"], '
            'set_={"last_sequence": Feed.last_sequence})\n    )\n',
            "",
        ),
        [f"{_FEEDS}::test_the_tombstone_waits_for_what_is_being_appended"],
    ),
)
