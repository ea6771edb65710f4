"""Every place that keeps something of a tenant, how tenants are kept apart there, and the test that proves it.

Stores are found by evidence: tables in the catalogue, keys in Redis and folders on the disk after work was done, and
attributes that hold mappings in the source. What is found and not listed here fails `tests/isolation/test_stores.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SQL: Final = "tests/isolation/test_sql.py::test_another_tenants_rows_are_out_of_reach"
SQL_SYSTEM: Final = "tests/isolation/test_sql.py::test_what_belongs_to_no_tenant_is_closed_to_the_runtime_role"


@dataclass(frozen=True, slots=True)
class Rights:
    """What the runtime role and the system role may do with a table, as far as any column goes."""

    runtime: str
    system: str


_ALL = "SELECT INSERT UPDATE DELETE"
TABLES: Final[Mapping[str, Rights]] = {
    "identity.api_keys": Rights("SELECT INSERT UPDATE", "SELECT UPDATE"),
    "identity.dead_letters": Rights("", _ALL),
    "identity.inbox": Rights("SELECT INSERT", "SELECT DELETE"),
    "identity.invitations": Rights("SELECT INSERT UPDATE", "SELECT"),
    "identity.copy_leases": Rights("", _ALL),
    "identity.invalidations": Rights("SELECT INSERT", "SELECT INSERT DELETE"),
    "identity.linked_accounts": Rights("", "SELECT INSERT"),
    "identity.login_states": Rights("", "SELECT INSERT DELETE"),
    "identity.memberships": Rights("SELECT INSERT UPDATE", "SELECT"),
    "identity.outbox": Rights("SELECT INSERT", _ALL),
    "identity.relay_state": Rights("", "SELECT INSERT UPDATE"),
    "identity.sessions": Rights("", _ALL),
    "identity.signing_keys": Rights("", "SELECT INSERT DELETE"),
    "identity.tenants": Rights("SELECT INSERT UPDATE", "SELECT"),
    "identity.users": Rights("SELECT", "SELECT INSERT UPDATE"),
    "indexing.chunks": Rights(_ALL, ""),
    "indexing.copy_leases": Rights("", _ALL),
    "indexing.dead_letters": Rights("", _ALL),
    "indexing.deleted_tenants": Rights("SELECT INSERT", ""),
    "indexing.documents": Rights(_ALL, ""),
    "indexing.embedded_batches": Rights(_ALL, ""),
    "indexing.generation_documents": Rights(_ALL, "SELECT UPDATE"),
    "indexing.generations": Rights(_ALL, "SELECT UPDATE"),
    "indexing.inbox": Rights("SELECT INSERT", "SELECT DELETE"),
    "indexing.invalidations": Rights("SELECT INSERT", "SELECT INSERT DELETE"),
    "indexing.jobs": Rights(_ALL, "SELECT UPDATE"),
    "indexing.known_projects": Rights(_ALL, ""),
    "indexing.outbox": Rights("SELECT INSERT", "SELECT UPDATE DELETE"),
    "indexing.project_access": Rights(_ALL, ""),
    "indexing.relay_state": Rights("", "SELECT INSERT UPDATE"),
    "indexing.run_documents": Rights("SELECT INSERT DELETE", ""),
    "indexing.run_steps": Rights(_ALL, ""),
    "indexing.run_turns": Rights(_ALL, "SELECT UPDATE"),
    "indexing.runs": Rights(_ALL, ""),
    "indexing.vector_changes": Rights(_ALL, "SELECT UPDATE"),
    "notifier.copy_leases": Rights("", _ALL),
    "notifier.dead_letters": Rights("", _ALL),
    "notifier.deleted_tenants": Rights("SELECT INSERT UPDATE", "SELECT UPDATE"),
    "notifier.document_purges": Rights(_ALL, ""),
    "notifier.feed_events": Rights(_ALL, ""),
    "notifier.feeds": Rights(_ALL, ""),
    "notifier.inbox": Rights("SELECT INSERT", "SELECT DELETE"),
    "notifier.invalidations": Rights("SELECT INSERT", "SELECT INSERT DELETE"),
    "notifier.known_projects": Rights(_ALL, ""),
    "notifier.outbox": Rights("SELECT INSERT", "SELECT UPDATE DELETE"),
    "notifier.project_access": Rights(_ALL, ""),
    "notifier.relay_state": Rights("", "SELECT INSERT UPDATE"),
    "notifier.run_events": Rights("SELECT INSERT DELETE", ""),
    "notifier.run_feeds": Rights(_ALL, "SELECT UPDATE"),
    "projects.batches": Rights(_ALL, ""),
    "projects.blob_deletions": Rights(_ALL, "SELECT UPDATE DELETE"),
    "projects.copy_leases": Rights("", _ALL),
    "projects.dead_letters": Rights("", _ALL),
    "projects.departures": Rights(_ALL, "SELECT UPDATE"),
    "projects.document_purges": Rights(_ALL, ""),
    "projects.document_versions": Rights("SELECT INSERT DELETE", ""),
    "projects.documents": Rights(_ALL, ""),
    "projects.exports": Rights(_ALL, "SELECT UPDATE"),
    "projects.inbox": Rights("SELECT INSERT", "SELECT DELETE"),
    "projects.invalidations": Rights("SELECT INSERT", "SELECT INSERT DELETE"),
    "projects.outbox": Rights("SELECT INSERT", "SELECT UPDATE DELETE"),
    "projects.project_members": Rights(_ALL, ""),
    "projects.project_contents": Rights(_ALL, ""),
    "projects.projects": Rights(_ALL, ""),
    "projects.relay_state": Rights("", "SELECT INSERT UPDATE"),
    "projects.tenant_erasures": Rights(_ALL, "SELECT UPDATE"),
    "projects.tenant_usage": Rights("SELECT INSERT UPDATE", ""),
    "projects.upload_expiries": Rights(_ALL, "SELECT UPDATE"),
    "projects.uploads": Rights(_ALL, ""),
}
"""Tables by `schema.name`. What the runtime role may use is held to the bound tenant; the rest is closed to it."""

OPEN_KEYS: Final[Mapping[str, str]] = {
    "pk_outbox": "ids of events are random and given to no client: a conflict tells who chose the id what he knew",
    "pk_invalidations": "the value is always generated: the runtime role may insert every column but this",
    "uq_outbox_position": "the value is always generated: the runtime role may insert every column but this",
}
"""Unique keys without a tenant on tables of tenants, and why nobody can use them to ask whether a row exists."""

# --- beside Postgres ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Store:
    """One kind of place. `apart` says how tenants are kept apart in it, or why there is nothing of a tenant to see."""

    pattern: str
    apart: str
    proof: str


REDIS_KEYS: Final = (
    Store(
        r"events\.(identity|projects|indexing|notifier)",
        "no client reaches Redis; each entry names its tenant and is applied in a transaction of that tenant",
        "tests/isolation/test_events.py::test_an_event_about_another_tenants_things_changes_nothing",
    ),
    Store(
        r"events\.(identity|projects|indexing|notifier):epoch",
        "a random mark of the stream; nothing of a tenant",
        "tests/infra/test_redis_acl.py::test_a_service_may_do_with_keys_what_its_part_needs_and_nothing_else",
    ),
    Store(
        r"events\.(identity|projects|indexing|notifier):wake",
        "says that something was committed; nothing of a tenant",
        "tests/infra/test_redis_acl.py::test_a_service_may_do_with_keys_what_its_part_needs_and_nothing_else",
    ),
    Store(
        r"events\.progress",
        "a tick goes to the streams of its tenant and project",
        "tests/isolation/test_events.py::test_progress_under_another_tenant_reaches_nobody",
    ),
    Store(
        r"notifier\.feeds",
        "sequences by tenant and project, no data; rows are read in a transaction of the tenant",
        "tests/services/notifier/test_feeds.py::test_another_tenant_reads_nothing",
    ),
    Store(
        r"gateway:limit:(anonymous|guesses|sign_in|user|tenant):.+",
        "one key for each subject",
        "tests/services/gateway/test_guards.py::test_one_tenants_limit_is_not_anothers",
    ),
)
"""Families of keys in Redis, as regular expressions of whole keys."""

FOLDERS: Final = (
    Store("postgres", "the tables of `TABLES`", SQL),
    Store(
        "redis",
        "the keys of `REDIS_KEYS`; an account for each service",
        "tests/infra/test_redis_acl.py::test_nobody_else_gets_in",
    ),
    Store(
        "blobs",
        "keys are tenant, project, document or upload, all of them ids we made",
        "tests/isolation/test_stores.py::test_blobs_of_two_tenants_share_no_place",
    ),
    Store(
        "vectors",
        "a facade for one tenant and one project, above the engine; files on their way to indexing are named by job",
        "tests/isolation/test_vectors.py::test_ten_thousand_hostile_searches_find_nothing_foreign",
    ),
    Store(
        "models",
        "weights of the embedder; nothing of a tenant",
        "tests/services/indexing/embedders/test_minilm.py",
    ),
    Store("secrets", "secrets of the installation, for their owner alone", "tests/infra/test_home.py"),
    Store("run", "sockets", "tests/infra/test_home.py"),
    Store(r"ports\.json|dev\.json|dev\.lock", "where processes listen", "tests/infra/test_home.py"),
)
"""What a stack keeps in its folder."""

_CACHE = "tests/services/gateway/test_guards.py::test_credentials_that_differ_in_their_last_letter_share_nothing"
_LIMITS = "tests/services/gateway/test_guards.py::test_one_tenants_limit_is_not_anothers"
_FEED_KEYS = "tests/isolation/test_events.py::test_progress_under_another_tenant_reaches_nobody"
MEMORY: Final = (
    Store(
        r"services\.gateway\.admission\.token_cache\.TokenCache\._entries",
        "by the hash of the whole credential",
        _CACHE,
    ),
    Store(
        r"services\.gateway\.admission\.token_cache\.TokenCache\._by_subject",
        "by id of credential, user or tenant; says only what to forget",
        "tests/services/gateway/admission/test_token_cache.py::test_a_revocation_ends_every_entry_of_its_subject_and_no_other",
    ),
    Store(
        r"services\.gateway\.admission\.token_cache\.TokenCache\._revoked",
        "when an id of a credential, user or tenant was revoked; says only which answers are too old to be used",
        "tests/services/gateway/admission/test_token_cache.py::test_an_answer_asked_for_before_a_revocation_of_its_own_is_not_kept",
    ),
    Store(
        r"services\.gateway\.admission\.token_exchange\.TokenExchange\._asking",
        "by the hash of the whole credential",
        _CACHE,
    ),
    Store(
        r"services\.gateway\.admission\.rate_limits\.RateLimiter\._(batches|queues|refusals|arrivals)",
        "by limit and subject, as in Redis",
        _LIMITS,
    ),
    Store(
        r"services\.gateway\.routes\._template",
        "words of the routing table; nothing of a tenant",
        "tests/services/gateway/test_metrics.py::test_a_route_is_told_by_words_of_the_table_alone",
    ),
    Store(
        r"services\.indexing\.jobs\.repository\._(add|advance)",
        "statements by the names of columns; no values",
        "tests/services/indexing/jobs/test_leases.py::test_a_thawed_worker_cannot_write",
    ),
    Store(
        r"services\.gateway\.inbound\.connections\.Connections\._(clients|waiting|by_client)",
        "connections by address",
        "tests/services/gateway/inbound/test_connections.py",
    ),
    Store(
        r"services\.gateway\.access_log_limits\.AccessLogBudget\._shares",
        "how many lines an address or a tenant may still write",
        "tests/services/gateway/test_access_log.py",
    ),
    Store(
        r"services\.gateway\.admission\.concurrency_limits\.(ConcurrencyLimit|Memory)\._(held|queues)",
        "numbers, and who waits, for each tenant or address",
        "tests/services/gateway/admission/test_concurrency_limits.py",
    ),
    Store(
        r"services\.gateway\.admission\.gate\.Gate\._known",
        "hashes of whole credentials that have counted; says only whose limit is asked",
        "tests/services/gateway/admission/test_concurrency_limits.py",
    ),
    Store(
        r"services\.gateway\.openapi\.document\.ProductDocument\._known",
        "the services' own documents; nothing of a tenant",
        "tests/services/gateway/openapi/test_openapi.py",
    ),
    Store(
        r"services\.gateway\.inbound\.request_validation\.limit_key",
        "addresses; nothing of a tenant",
        "tests/services/gateway/admission/test_rate_limits.py::test_one_ipv6_subscriber_is_one_client",
    ),
    Store(
        r"services\.indexing\.documents\.chunk_lengths\.ChunkLengths\._remembered",
        "how long a project's chunks are on average; read with its id, and shown to nobody",
        "tests/services/indexing/documents/test_chunk_lengths.py",
    ),
    Store(
        r"services\.indexing\.analysis\..+",
        "words with their stems and terms, the same for everybody; none is handed to anyone but who asked with it",
        "tests/services/indexing/search/test_highlights.py::test_words_are_marked",
    ),
    Store(
        r"services\.indexing\.expiring_set\.ExpiringSet\._when",
        "when a document of a tenant took long; says only whose places are counted together",
        "tests/services/indexing/jobs/test_worker_places.py",
    ),
    Store(
        r"services\.indexing\.search\.fair_share\.SearchShares\._(asked|longest)",
        "numbers for each tenant: searches under way, and how long its longest took lately",
        "tests/services/indexing/search/test_fair_share.py",
    ),
    Store(
        r"services\.indexing\.search\.(read_after\.Waiting\._(waiting|held)|progress\.Progress\.milliseconds)",
        "searches that wait for a document, woken to look in their own tenant; numbers and times",
        "tests/services/indexing/search/test_read_after.py::"
        "test_another_tenants_or_projects_document_is_as_one_that_does_not_exist",
    ),
    Store(
        r"services\.indexing\.agents\.forms\._validator",
        "what checks a value of a form, which comes with a request and goes with it",
        "tests/services/indexing/agents/test_forms.py",
    ),
    Store(
        r"services\.indexing\.pipeline\.extraction_template\._Template\._processes",
        "numbers of processes that read documents, in a process that has none",
        "tests/services/indexing/pipeline/test_extraction.py::test_processes_share_the_memory_of_what_they_have_loaded",
    ),
    Store(
        r"services\.indexing\.pipeline\.formats\..+",
        "names, characters and a font, the same for everybody; all else is of one document, whose process ends with it",
        "tests/services/indexing/pipeline/test_extraction_child.py",
    ),
    Store(
        r"services\.indexing\.pipeline\.confinement\.kernel\._libc",
        "the C library of the process; nothing of a tenant",
        "tests/services/indexing/pipeline/test_confinement.py",
    ),
    Store(
        r"services\.indexing\.jobs\.worker\.Worker\._(held|stages)",
        "jobs under way by tenant and id; what is written is written in the tenant's transaction",
        "tests/services/indexing/jobs/test_leases.py::test_two_workers_at_once_never_take_the_same_job",
    ),
    Store(
        r"services\.indexing\.vectors\.embedded\.connection\.Connection\._waiting",
        "calls under way by a number of their own",
        "tests/services/indexing/vectors/test_conformance.py::test_many_callers_at_once_each_get_their_own_answer",
    ),
    Store(
        r"shared\.fair_semaphore\.FairSemaphore\._(queues|held)",
        "who holds and who waits for a place, by connection or tenant; no data",
        "tests/shared/test_fair_semaphore.py",
    ),
    Store(
        r"services\.notifier\.feeds\.announcements\.Announcer\._waiting",
        "by tenant and project; sequences, no data",
        "tests/services/notifier/test_feeds.py::test_only_a_committed_append_is_announced",
    ),
    Store(r"services\.notifier\.streams\.hub\.Hub\._channels", "by tenant and feed", _FEED_KEYS),
    Store(
        r"services\.notifier\.streams\.progress_throttle\.Progress\._(shown_at|waiting)",
        "of one channel, which is one feed of one tenant",
        _FEED_KEYS,
    ),
    Store(
        r"services\.notifier\.streams\.connections\.Connections\._(by_tenant|by_caller)",
        "by tenant, and by tenant and caller",
        "tests/services/notifier/test_streams.py::test_there_are_only_so_many_streams",
    ),
    Store(
        r"services\.notifier\.streams\.connections\.Connections\.ended",
        "a number for each reason; nothing of a tenant",
        "tests/services/notifier/test_metrics.py::test_streams_that_were_cut_off_are_told_by_their_reason",
    ),
    Store(
        r"services\.notifier\.streams\.snapshots\.Snapshots\._not_begun",
        "by tenant and project; each asked with a token of the tenant",
        "tests/services/notifier/test_streams.py::test_the_snapshot_holds_the_running_jobs",
    ),
    Store(
        r"services\.projects\.upload_turns\.Turns\._turns",
        "by tenant and upload, asked for with the caller's tenant; says only that a request writes to the upload",
        "tests/services/projects/uploads/test_resuming.py::test_nobody_ends_the_request_of_another_tenant",
    ),
    Store(
        r"services\.projects\.blobs\.resumable_sha256\._library",
        "a library; nothing of a tenant",
        "tests/services/projects/blobs/test_resumable_sha256.py",
    ),
    Store(
        r"services\.projects\.documents\.upload\._Form\._headers",
        "of one request",
        "tests/services/projects/documents/test_upload.py::test_a_form_may_arrive_in_pieces_of_any_size",
    ),
    Store(
        r"services\.projects\.projects\.repository\._page",
        "statements, without the values of their parameters; nothing of a tenant",
        "tests/shared/test_prepared_statements.py",
    ),
    Store(
        r"shared\.authority_client\.Authority\._(asking|next)",
        "by all that is asked about a credential, for as long as a question is under way",
        "tests/shared/test_authority_client.py::test_questions_about_different_credentials_do_not_wait_for_each_other",
    ),
    Store(
        r"shared\.auth\.TokenVerifier\._keys",
        "identity's public keys; nothing of a tenant",
        "tests/shared/test_auth.py::test_invented_key_ids_do_not_flood_identity",
    ),
    Store(
        r"shared\.auth\.TokenVerifier\._remembered",
        "by digest of a whole token: only who sends the same one again is taken for the same caller",
        "tests/shared/test_auth.py::test_a_token_that_was_accepted_once_is_refused_once_it_has_expired",
    ),
    Store(
        r"shared\.auth\.ServiceTokens\._cache",
        "by audience and tenant",
        "tests/shared/test_auth.py::test_a_service_token_speaks_for_one_tenant_and_is_reused",
    ),
    Store(
        r"shared\.errors\.QuarryError\.(members|headers)",
        "of one request: an error is made where it is raised, and is gone with the answer",
        "tests/shared/test_http.py::test_a_used_up_quota_is_named_with_its_numbers",
    ),
    Store(
        r"shared\.route_introspection\.RouteTable\._by_depth",
        "paths and rules of the routes of a service; nothing of a tenant",
        "tests/shared/test_http.py::test_a_path_names_its_methods",
    ),
    Store(
        r"shared\.invalidations\.projected_copies\.Projection\._behind",
        "by tenant, applied in its own transaction; while a tenant has an entry, its copies alone are not used",
        "tests/shared/test_projected_copies.py::test_what_cannot_be_applied_for_one_tenant_keeps_its_copies_alone_from_use",
    ),
    Store(
        r"services\.indexing\.agents\.orchestrator\.Orchestrator\._at_work",
        "turns under way; each works in its tenant's own transactions",
        "tests/services/indexing/agents/runs/test_turns.py::test_a_tenant_with_few_runs_goes_first",
    ),
    Store(
        r"services\.indexing\.agents\.runs\.endings\.Endings\._waiting",
        "who waits for a run, by its id; what it is told is read in the tenant's transaction",
        "tests/services/indexing/agents/runs/test_runs.py::test_a_run_is_of_its_project_and_tenant",
    ),
    Store(
        r"services\.indexing\.agents\.quotes\.(quote_search\.(folded|places)|verification\._Versions\._(read|passages))",
        "of one answer: the texts that its caller may read, read for it and gone with it",
        "tests/services/indexing/agents/test_verification.py::test_only_documents_that_were_given_are_read",
    ),
    Store(
        r"services\.indexing\.tenant_turns\.TenantTurns\._at_work",
        "the task of each tenant that has a turn; each works in its tenant's own transactions",
        "tests/services/indexing/documents/test_vector_sync.py::test_a_deleted_tenant_is_removed_whole_and_no_other",
    ),
    Store(
        r"services\.notifier\.streams\.revocations\.Revocations\._(due|at_work)",
        "by tenant; only that tenant's streams are looked at, in its own transactions",
        "tests/services/notifier/test_revocations.py::test_after_a_gap_in_projects_everybody_is_checked",
    ),
    Store(
        r"shared\.delivery\.Dispatcher\._by_type",
        "handlers by type of event; nothing of a tenant",
        "tests/shared/test_delivery.py::test_an_event_that_nobody_handles_is_done",
    ),
    Store(
        r"shared\.stream_consumer\..+",
        "waiting times of one consumer; nothing of a tenant",
        "tests/shared/test_stream_consumer.py",
    ),
)
"""Mappings that outlive a request in a process, as `module.Class.attribute` or `module.function`."""

FEEDS: Final = (
    Store(
        "/v1/projects/{project_id}/events",
        "read in a transaction of the tenant, cut to the project, opened by who has a role there, ended when it goes",
        "tests/services/notifier/test_streams.py::test_another_tenants_project_and_a_missing_one_are_the_same_404",
    ),
    Store(
        "/v1/projects/{project_id}/runs/{run_id}/events",
        "read in a transaction of the tenant, opened by who may search the project that indexing says the run is in",
        "tests/services/notifier/test_runs.py::test_a_run_of_another_tenant_and_a_missing_one_are_the_same_404",
    ),
    Store(
        "/v1/projects/{project_id}/ask",
        "goes on at the feed of the run that it has started, asked for in the client's own name",
        "tests/services/gateway/proxy/test_continuation.py::test_only_the_events_of_a_run_in_the_same_project_may_follow",
    ),
    Store(
        "/v1/events",
        "read in a transaction of the tenant, cut to the projects the caller may see",
        "tests/services/notifier/test_streams.py::test_a_member_sees_its_own_projects_live_and_replayed",
    ),
)
"""Streams that clients follow."""

OTHERS: Final = (
    Store(
        "metrics",
        "labels name handlers, routes by their template and streams, never a tenant or an id",
        "tests/shared/test_metrics.py::test_requests_are_told_apart_by_the_template_of_their_route",
    ),
    Store(
        "metrics of the gateway",
        "on a port of their own that is not public; labels name routes by words of the routing table",
        "tests/services/gateway/test_metrics.py::test_metrics_are_on_the_internal_port_and_on_no_other",
    ),
    Store(
        "dead letters",
        "evidence of all tenants, for the service itself and operators alone",
        "tests/shared/test_operator_api.py::test_no_client_gets_in_whatever_its_role",
    ),
    Store(
        "processes that read documents",
        "one for each document, without a secret in its environment",
        "tests/services/indexing/pipeline/test_extraction.py::test_secrets_of_the_environment_stay_here",
    ),
    Store(
        "a Qdrant server",
        "one collection of all tenants, above it the same facade; the service alone has the key to it",
        "tests/isolation/test_vectors.py::test_ten_thousand_hostile_searches_find_nothing_foreign",
    ),
    Store(
        "term statistics of a Qdrant server",
        "those of the scope alone; a server too old to tell them apart is not used",
        "tests/services/indexing/vectors/test_qdrant_engine.py::"
        "test_a_server_that_does_not_know_scoped_statistics_is_not_used",
    ),
    Store(
        "the socket of a shared vector engine",
        "all tenants' points, for the account of the service alone",
        "tests/services/indexing/vectors/test_remote_engine.py::"
        "test_the_socket_is_for_its_owner_alone_and_goes_with_it",
    ),
    Store(
        "advisory locks",
        "the key of a lock that follows from content names the tenant",
        "tests/isolation/test_sql.py::test_locks_of_the_application_name_the_tenant",
    ),
)
"""Places that are no store and hold something of tenants all the same."""

NOT_YET: Final = (
    ("webhooks", "the product sends none yet"),
    ("idempotency keys", "the gateway keeps none yet: its schema has no table"),
)
"""What the requirements name and nothing has been built of; a table, key or folder of theirs is found by the tests."""
