"""The list of attacks, each with the tests that try it or a line that says why none does.

    python -m tests.isolation.attacks

prints it. `tests/isolation/test_attacks.py` fails when a test that is named here does not exist.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from infra.local.home import ROOT


@dataclass(frozen=True, slots=True)
class Attack:
    """`tests` are node ids without parameters, or whole files. `not_tried` is an honest reason."""

    group: str
    what: str
    tests: Sequence[str] = ()
    not_tried: str = ""


_ROUTES = "tests/isolation/test_routes.py"
_SQL = "tests/isolation/test_sql.py"
_EVENTS = "tests/isolation/test_events.py"
_SEARCH = "tests/services/indexing/search"
_VECTORS = "tests/isolation/test_vectors.py"
_CANARIES = "tests/isolation/test_canaries.py"
_STORES = "tests/isolation/test_stores.py"
_GATEWAY = "tests/services/gateway"
_IDENTITY = "tests/services/identity"
_SIGN_IN = f"{_IDENTITY}/test_sign_in.py"
_PROJECTS = "tests/services/projects"
_NOTIFIER = "tests/services/notifier"
_PIPELINE = "tests/services/indexing/pipeline"
_AUTH = "tests/shared/test_auth.py"

ATTACKS: Final = (
    # --- routes -----------------------------------------------------------------------------------------------------
    Attack(
        "routes",
        "every route as anonymous, other tenant, other project, lower role, expired and revoked: as for what never was",
        (
            f"{_ROUTES}::test_nobody_is_told_more_than_of_what_never_existed",
            f"{_ROUTES}::test_the_victim_still_has_everything",
        ),
    ),
    Attack(
        "routes",
        "tampered ids, cursors and event ids",
        (
            f"{_ROUTES}::test_an_id_with_one_bit_changed_is_nobodys",
            f"{_ROUTES}::test_cursors_of_others_and_of_nobody_lead_to_nothing_of_theirs",
            f"{_ROUTES}::test_ids_of_events_lead_only_through_the_callers_own_feed",
        ),
    ),
    Attack(
        "routes",
        "upload ids: of others, of another project, with one bit changed, under each method",
        (
            f"{_ROUTES}::test_nobody_is_told_more_than_of_what_never_existed",
            f"{_ROUTES}::test_an_id_with_one_bit_changed_is_nobodys",
            f"{_ROUTES}::test_what_is_in_one_project_is_not_found_under_another",
            "tests/services/projects/uploads/test_protocol.py::test_who_may_not_write_learns_and_changes_nothing",
        ),
    ),
    Attack(
        "routes",
        "ids of batches, as a path, with an upload and in a filter; what documents of others are called, in a filter",
        (
            f"{_ROUTES}::test_the_victims_content_is_recognised_nowhere_else",
            f"{_PROJECTS}/batches/test_batches.py::test_batches_are_found_in_their_own_project_only",
        ),
    ),
    Attack(
        "routes",
        "a route that is not registered",
        (
            "tests/isolation/test_endpoints.py::test_a_new_route_is_red_until_it_is_registered",
            f"{_ROUTES}::test_no_route_and_no_parameter_was_left_out",
        ),
    ),
    Attack(
        "routes",
        "one guard removed: the other holds; both removed: the suite turns red",
        (
            f"{_ROUTES}::test_without_the_orm_criterion_nothing_leaks",
            f"{_ROUTES}::test_without_row_level_security_nothing_leaks",
            f"{_ROUTES}::test_without_both_guards_the_attack_succeeds",
            "tests/isolation/test_mutations.py",
        ),
    ),
    Attack(
        "routes",
        "an export requested, polled, downloaded, resumed or deleted without the right to all that is in it, or after",
        (
            f"{_PROJECTS}/exports/test_exports.py::test_exports_are_for_who_may_administer_and_read_all_of_it",
            f"{_PROJECTS}/exports/test_exports.py::test_who_may_not_export_is_refused",
            f"{_PROJECTS}/exports/test_exports.py::test_who_has_lost_the_project_cannot_download",
            f"{_PROJECTS}/exports/test_exports.py::test_a_long_download_ends_with_the_right_to_it",
            f"{_PROJECTS}/exports/test_making.py::test_exports_end_with_their_tenant",
        ),
    ),
    Attack(
        "routes",
        "names of documents that lead out of an archive, or over another entry of it",
        (
            f"{_PROJECTS}/exports/test_names.py::test_a_name_is_one_that_every_file_system_takes",
            f"{_PROJECTS}/exports/test_names.py::test_equal_names_are_in_different_places",
        ),
    ),
    Attack("routes", "how long an answer takes", ("tests/isolation/test_timing.py",)),
    # --- SQL --------------------------------------------------------------------------------------------------------
    Attack(
        "SQL as the runtime role",
        "SELECT, UPDATE, DELETE, MERGE, INSERT with a foreign tenant, COPY in and out, ON CONFLICT",
        (
            f"{_SQL}::test_another_tenants_rows_are_out_of_reach",
            f"{_SQL}::test_the_attacks_reach_a_table_without_its_policy",
        ),
    ),
    Attack(
        "SQL as the runtime role",
        "foreign-key and unique oracles",
        (
            f"{_SQL}::test_another_tenants_rows_are_out_of_reach",
            f"{_STORES}::test_every_table_is_known_and_keeps_to_the_rules",
        ),
    ),
    Attack(
        "SQL as the runtime role",
        "views and functions with their owner's rights",
        ("tests/isolation/test_catalogue.py::test_no_view_or_function_runs_with_its_owners_rights",),
    ),
    Attack(
        "SQL as the runtime role",
        "SET ROLE, SET SESSION AUTHORIZATION, own tables, views, functions, triggers and policies, TRUNCATE, files",
        (f"{_SQL}::test_nobody_becomes_somebody_else_or_makes_anything",),
    ),
    Attack("SQL as the runtime role", "row_security = off", (f"{_SQL}::test_no_role_switches_row_security_off",)),
    Attack(
        "SQL as the runtime role",
        "no tenant, an empty, a null and a malformed one",
        (f"{_SQL}::test_without_a_bound_tenant_no_row_is_seen",),
    ),
    Attack(
        "SQL as the runtime role",
        "a pooled connection after abort, cancel, timeout and loss; prepared statements, savepoints, held cursors",
        (
            f"{_SQL}::test_whatever_ends_a_transaction_its_tenant_ends_with_it",
            f"{_SQL}::test_a_prepared_statement_serves_whoever_is_bound_when_it_runs",
            f"{_SQL}::test_a_savepoint_takes_the_binding_back",
            f"{_SQL}::test_a_cursor_that_outlives_its_transaction_holds_what_its_tenant_saw",
        ),
    ),
    Attack(
        "SQL as the runtime role",
        "search_path, statistics, leaky conditions, sequences, other connections' statements, advisory locks",
        (
            f"{_SQL}::test_a_search_path_leads_into_no_other_schema",
            f"{_SQL}::test_statistics_show_no_values",
            f"{_SQL}::test_conditions_are_not_tried_on_rows_of_others",
            f"{_SQL}::test_sequences_tell_nobody_how_much_others_write",
            f"{_SQL}::test_what_other_connections_run_is_not_shown_with_its_values",
            f"{_SQL}::test_locks_of_the_application_name_the_tenant",
        ),
    ),
    Attack(
        "SQL as the runtime role",
        "binding another tenant, LOCK TABLE, row counts in pg_class and in EXPLAIN ANALYZE",
        not_tried="open to whoever runs SQL of his choice as the role; no request can. See docs/security.md",
    ),
    # --- the inside from outside ------------------------------------------------------------------------------------
    Attack(
        "internal headers",
        "X-Tenant-Id, X-Internal-*, underscores, duplicates, names listed by Connection",
        (
            f"{_ROUTES}::test_headers_of_the_inside_mean_nothing_from_outside",
            f"{_GATEWAY}/inbound/test_headers.py::test_a_header_clients_may_not_set_is_dropped",
            f"{_GATEWAY}/inbound/test_headers.py::test_what_connection_lists_is_for_this_hop_only",
            f"{_GATEWAY}/inbound/test_headers.py::test_two_values_where_one_counts_are_refused",
        ),
    ),
    Attack(
        "internal headers",
        "a service called without the internal token, or with one for another audience",
        (
            f"{_ROUTES}::test_past_the_gateway_nobody_gets_in_without_an_internal_token",
            f"{_AUTH}::test_a_wrong_claim_is_refused",
            f"{_PROJECTS}/test_isolation.py::test_nobody_gets_in_without_a_token_for_this_service",
        ),
    ),
    Attack(
        "internal headers",
        "a service's secret used for another service's operations, for clients' routes, or about no tenant",
        (
            "tests/isolation/test_service_access.py::test_a_token_names_what_the_table_gives_and_no_more",
            "tests/isolation/test_service_access.py::test_a_service_reaches_what_its_token_names_and_nothing_else",
            "tests/isolation/test_service_access.py::test_no_client_gets_in_by_an_internal_route",
            f"{_AUTH}::test_a_service_that_says_it_has_a_role_is_refused",
            f"{_AUTH}::test_scopes_and_operations_do_not_pass_for_one_another",
        ),
    ),
    Attack(
        "internal headers",
        "a service calling another for a client with more than the client has, later, elsewhere, or for nobody",
        ("tests/services/identity/test_delegated_tokens.py",),
    ),
    Attack(
        "agents",
        "every tool of the Model Context Protocol as every attacker: as for what never was",
        ("tests/isolation/test_mcp.py", "tests/flows/test_mcp.py::test_two_tenants_see_nothing_of_each_other"),
    ),
    Attack(
        "agents",
        "a page bound to our address by DNS, a browser's session, forged headers of the protocol",
        (f"{_GATEWAY}/admission/test_programs_only.py",),
    ),
    Attack(
        "agents",
        "messages that are malformed, nested, huge, or contradict their headers",
        ("tests/services/indexing/agents/test_mcp_door.py",),
    ),
    Attack(
        "rights",
        "passing on more than one has, or keeping what was passed on when its giver has lost it",
        tuple(
            f"tests/services/identity/test_grant_policy.py::{name}"
            for name in (
                "test_a_key_for_members_alone_makes_nobody_more_than_a_member",
                "test_a_key_tied_to_a_project_passes_nothing_on",
                "test_what_a_grantor_is_counts_at_the_moment_of_the_grant",
                "test_an_invitation_ends_with_the_membership_of_who_sent_it",
                "test_an_invitation_ends_with_the_key_it_was_sent_with",
                "test_an_invitation_kept_back_does_not_bring_a_removed_member_back",
                "test_revoking_a_key_revokes_the_keys_made_with_it_and_theirs",
                "test_a_key_that_makes_another_while_it_is_revoked_leaves_none_behind",
                "test_a_key_is_for_a_project_of_the_tenant",
            )
        ),
    ),
    Attack(
        "rights",
        "shares multiplied by making tenants, keys, invitations or members, many at once",
        tuple(
            f"tests/services/identity/test_quotas.py::{name}"
            for name in (
                "test_a_user_has_so_many_tenants",
                "test_tenants_given_away_still_count_for_who_made_them",
                "test_a_user_makes_so_many_tenants_in_an_hour_deleted_ones_too",
                "test_a_tenant_has_so_many_keys",
                "test_a_tenant_has_so_many_open_invitations",
                "test_a_tenant_has_so_many_members",
            )
        ),
    ),
    # --- the wire ---------------------------------------------------------------------------------------------------
    Attack(
        "request smuggling",
        "CL+TE, two CL, obs-fold, NUL, pipelining, trailers, upgrades",
        (
            f"{_GATEWAY}/inbound/test_wire.py::test_a_request_with_two_readings_goes_nowhere",
            f"{_GATEWAY}/inbound/test_wire.py::test_a_pipelined_request_is_not_taken_and_the_first_is_answered",
            f"{_GATEWAY}/inbound/test_wire.py::test_trailers_do_not_become_headers",
            f"{_GATEWAY}/inbound/test_wire.py::test_an_upgrade_is_answered_as_a_plain_request",
            f"{_GATEWAY}/inbound/test_paths.py::test_ambiguous_requests_are_refused",
        ),
    ),
    Attack(
        "request smuggling",
        "64 KB headers, headers without end or that never come",
        (
            f"{_GATEWAY}/inbound/test_wire.py::test_headers_that_are_too_large_are_431",
            f"{_GATEWAY}/inbound/test_wire.py::test_headers_without_end_are_cut_off",
            f"{_GATEWAY}/inbound/test_wire.py::test_headers_that_do_not_come_are_not_waited_for",
        ),
    ),
    Attack(
        "request smuggling",
        "encoded paths, absolute-form targets, method override",
        (
            f"{_GATEWAY}/inbound/test_paths.py::test_what_is_not_routed_cannot_be_reached",
            f"{_GATEWAY}/inbound/test_paths.py::test_an_absolute_target_and_an_odd_host_change_nothing",
            f"{_GATEWAY}/inbound/test_paths.py::test_methods_outside_the_api_are_refused",
            f"{_GATEWAY}/test_guards.py::test_an_encoded_separator_is_refused",
        ),
    ),
    # --- tokens -----------------------------------------------------------------------------------------------------
    Attack(
        "tokens",
        "`none`, algorithm confusion, jwk/kid injection, a stranger's signature",
        (
            f"{_AUTH}::test_an_unsigned_token_and_algorithm_confusion_are_refused",
            f"{_AUTH}::test_a_token_signed_by_somebody_else_is_refused",
            "tests/shared/test_guards.py::test_a_token_that_brings_its_own_key_is_refused",
        ),
    ),
    Attack(
        "tokens",
        "wrong aud, iss and typ, unknown critical header, a megabyte",
        (
            f"{_AUTH}::test_a_wrong_claim_is_refused",
            f"{_AUTH}::test_a_token_of_another_type_is_refused",
            "tests/shared/test_guards.py::test_a_signed_token_with_an_unknown_critical_header_is_refused",
            "tests/shared/test_guards.py::test_an_absurd_token_is_refused_unread",
        ),
    ),
    Attack("tokens", "a flood of unknown key ids", (f"{_AUTH}::test_invented_key_ids_do_not_flood_identity",)),
    # --- OAuth ------------------------------------------------------------------------------------------------------
    Attack(
        "OAuth",
        "exact redirect, PKCE, state bound to the browser, nonce, iss mix-up, code single use",
        (
            f"{_SIGN_IN}::test_the_provider_is_asked_with_pkce_state_nonce_and_the_exact_redirect_uri",
            f"{_SIGN_IN}::test_a_missing_or_wrong_verifier_is_refused_by_the_provider",
            f"{_SIGN_IN}::test_a_callback_in_another_browser_is_refused",
            f"{_SIGN_IN}::test_another_nonce_stored_is_refused",
            f"{_SIGN_IN}::test_the_answer_of_another_issuer_is_refused",
            f"{_SIGN_IN}::test_a_callback_counts_once",
            f"{_IDENTITY}/test_guards.py::test_a_sign_in_does_not_end_with_another_provider",
        ),
    ),
    Attack(
        "OAuth",
        "ID tokens: unsigned, HS256 with the public key, of somebody else",
        (
            f"{_SIGN_IN}::test_an_unsigned_token_and_one_signed_with_the_public_key_are_refused",
            f"{_SIGN_IN}::test_an_id_token_for_somebody_or_something_else_is_refused",
        ),
    ),
    Attack("OAuth", "open redirect by return_to", (f"{_SIGN_IN}::test_the_browser_is_sent_nowhere_else",)),
    Attack(
        "OAuth", "linking by an address nobody verified", (f"{_SIGN_IN}::test_an_unverified_address_links_nothing",)
    ),
    Attack(
        "OAuth",
        "reuse of a refresh token revokes its family",
        not_tried="Quarry is no authorization server for others yet: it issues no refresh tokens",
    ),
    # --- browsers ---------------------------------------------------------------------------------------------------
    Attack(
        "cookies",
        "`__Host-`, flags, fixation",
        (
            f"{_SIGN_IN}::test_cookies_are_bound_to_this_host_and_out_of_reach",
            f"{_SIGN_IN}::test_a_session_secret_chosen_by_somebody_else_is_not_adopted",
            f"{_GATEWAY}/admission/test_credentials.py::test_two_session_cookies_are_refused",
            f"{_GATEWAY}/test_guards.py::test_no_service_sets_a_cookie_where_nobody_signs_in",
        ),
    ),
    Attack(
        "cookies",
        "CSRF: missing token, wrong Origin, Sec-Fetch-Site: cross-site",
        (
            f"{_GATEWAY}/admission/test_browsers.py::test_a_session_changes_something_only_with_its_csrf_token",
            f"{_GATEWAY}/admission/test_browsers.py::test_another_site_may_not_act_for_the_user",
            f"{_GATEWAY}/admission/test_browsers.py::test_another_site_cannot_sign_the_user_out",
            f"{_ROUTES}::test_nobody_signs_the_victim_out",
        ),
    ),
    Attack(
        "cookies",
        "CORS: reflection and `null`",
        (
            f"{_GATEWAY}/admission/test_browsers.py::test_listed_origins_may_read_answers_and_others_may_not",
            f"{_GATEWAY}/admission/test_browsers.py::test_a_preflight_is_answered_for_listed_origins_only",
        ),
    ),
    # --- bodies and uploads -----------------------------------------------------------------------------------------
    Attack(
        "bodies",
        "tenant_id, role, owner_id, created_at and other fields a client may not send",
        (
            f"{_ROUTES}::test_fields_only_the_server_fills_in_are_refused",
            "tests/shared/test_http.py::test_a_body_with_unknown_fields_is_refused",
        ),
    ),
    Attack(
        "bodies",
        "deep JSON, NaN, 1e400, page and batch limits",
        (
            f"{_PROJECTS}/projects/test_projects.py::test_json_that_no_store_can_keep_is_refused",
            f"{_PROJECTS}/projects/test_projects.py::test_metadata_at_its_limits_is_kept",
            "tests/services/indexing/vectors/test_filters.py::test_depth_is_limited_however_absurd",
            "tests/services/indexing/vectors/test_filters.py::test_size_is_limited_over_all_levels",
            f"{_PROJECTS}/test_guards.py::test_pages_are_bounded",
        ),
    ),
    Attack(
        "bodies",
        "work and answers out of proportion: unknown fields by the thousand, large, deep and compressed bodies",
        (
            "tests/shared/test_http.py::test_a_body_is_bounded_before_anything_is_made_of_it",
            "tests/shared/test_http.py::test_a_client_reads_only_so_much_about_its_errors",
            "tests/shared/test_http.py::test_json_may_be_compressed",
            "tests/shared/test_request_schemas.py::test_many_unknown_fields_are_one_error",
        ),
    ),
    Attack(
        "bodies",
        "times and numbers at the edge of what a store can hold",
        ("tests/shared/test_http.py::test_a_time_in_a_request_is_one_that_can_be_kept",),
    ),
    Attack(
        "queries",
        "parameters no route knows, or one of them twice",
        ("tests/shared/test_http.py::test_unknown_and_repeated_query_parameters_are_refused",),
    ),
    Attack(
        "uploads",
        "zip, gzip, PDF and XML bombs, nested archives",
        (
            "tests/shared/test_content_coding.py::test_a_bomb_ends_early",
            f"{_PROJECTS}/documents/test_upload.py::test_a_compressed_upload_that_is_not_acceptable_leaves_nothing",
            f"{_PIPELINE}/test_docx.py::test_a_part_that_unpacks_to_gigabytes_is_refused",
            f"{_PIPELINE}/test_docx.py::test_entity_bombs_are_refused_unread",
            f"{_PIPELINE}/test_docx.py::test_external_entities_are_refused",
            f"{_PIPELINE}/test_docx.py::test_an_archive_that_lies_about_its_size_is_damaged",
            f"{_PIPELINE}/test_docx_package.py::test_declarations_in_lists_of_parts_are_refused",
            f"{_PIPELINE}/test_docx_package.py::test_nothing_outside_the_package_is_read",
            f"{_PIPELINE}/test_docx_package.py::test_parts_and_what_they_unpack_to_are_limited_together",
            f"{_PIPELINE}/test_docx_parts.py::test_documents_in_documents_end_somewhere",
            f"{_PIPELINE}/test_extraction.py::test_hostile_documents_fail_with_a_reason_and_harm_nobody",
            f"{_PIPELINE}/test_extraction.py::test_memory_is_limited",
            f"{_PIPELINE}/test_extraction.py::test_processor_time_is_limited",
            *(
                f"{_PIPELINE}/test_{kind}.py::test_bombs_are_refused"
                for kind in ("pptx", "xlsx", "opendocument", "epub", "eml", "rtf")
            ),
            f"{_PIPELINE}/test_structured_texts.py::test_damaged_and_hostile_xml_fails",
            f"{_PIPELINE}/test_guards.py::test_packed_and_nested_archives_are_not_unpacked",
            f"{_PIPELINE}/test_guards.py::test_a_page_that_unpacks_to_gigabytes_harms_nobody",
        ),
    ),
    Attack(
        "uploads",
        "documents that take long to read, split or embed, and metadata that is copied",
        (
            f"{_PIPELINE}/test_chunking.py::test_the_splitter_never_sees_more_than_a_block",
            f"{_PIPELINE}/test_extraction.py::test_splitting_is_limited_as_reading_is",
            f"{_PIPELINE}/test_extraction.py::test_a_tenant_leaves_a_process_to_the_others",
            f"{_PIPELINE}/test_extraction.py::test_a_document_that_takes_long_lets_everything_else_go_first",
            f"{_PIPELINE}/test_extraction.py::test_the_number_of_chunks_is_limited_where_the_document_is_read",
            "tests/services/indexing/embedders/test_minilm.py::test_tenants_take_turns_text_by_text",
            "tests/services/indexing/embedders/test_minilm.py::test_a_note_does_not_wait_for_background_texts",
            "tests/services/indexing/jobs/test_worker.py::test_a_running_job_is_cancelled_while_its_chunks_are_embedded",
            "tests/services/indexing/vectors/test_metadata_terms.py::test_what_every_chunk_carries_is_bounded_whatever_the_metadata",
        ),
    ),
    Attack(
        "uploads",
        "code in a document: files, /proc, memory and signals of others, sockets, programs, kernel interfaces",
        (
            f"{_PIPELINE}/test_confinement.py::test_hostile_code_in_a_documents_process_reaches_nothing",
            f"{_PIPELINE}/test_confinement.py::test_the_same_code_without_confinement_reaches_nearly_everything",
            f"{_PIPELINE}/test_confinement.py::test_a_layer_refuses_what_it_is_for_without_the_others",
            f"{_PIPELINE}/test_confinement.py::test_a_call_in_another_numbering_ends_the_process",
        ),
    ),
    Attack(
        "uploads",
        "path traversal in names, MIME mismatch, 0 bytes, more than the limit",
        (
            f"{_PROJECTS}/documents/test_names.py::test_a_name_keeps_what_can_be_shown",
            f"{_STORES}::test_the_blobs_of_a_tenant_lie_below_its_id",
            f"{_PIPELINE}/test_docx.py::test_the_bytes_decide_not_the_name",
            f"{_PIPELINE}/test_pdf.py::test_the_bytes_decide_not_the_name",
            f"{_PROJECTS}/documents/test_upload.py::test_an_empty_body_is_refused",
            f"{_PROJECTS}/documents/test_upload.py::test_the_limit_holds_for_what_is_declared_and_for_what_arrives",
            f"{_PROJECTS}/documents/test_content.py::test_a_type_that_browsers_run_is_not_named",
        ),
    ),
    Attack(
        "uploads",
        "1 byte a second",
        (
            f"{_GATEWAY}/proxy/test_failures.py::test_an_upload_by_the_byte_is_not_waited_for",
            f"{_GATEWAY}/proxy/test_failures.py::test_a_body_that_stops_coming_is_408",
        ),
    ),
    Attack(
        "events",
        "an event on the stream of another service, or in the name of another",
        (
            "tests/shared/test_delivery.py::"
            "test_an_event_on_the_stream_of_another_producer_is_quarantined_and_not_applied",
            "tests/shared/test_delivery.py::test_even_what_nobody_handles_is_quarantined_on_a_foreign_stream",
            f"{_EVENTS}::test_an_event_of_another_tenant_ends_no_stream",
        ),
    ),
    Attack(
        "search",
        "a thousand equal words, facets over much metadata, large pages, more searches at once than there are places",
        (
            f"{_SEARCH}/test_highlights.py::test_a_word_repeated_costs_what_it_costs_once",
            f"{_SEARCH}/test_facets.py::test_metadata_beyond_the_budget_is_not_counted_and_the_answer_says_so",
            f"{_SEARCH}/test_facets.py::test_a_path_of_many_dots_costs_no_more_than_the_keys_there_are",
            f"{_SEARCH}/test_search.py::test_a_page_of_large_items_is_shorter_and_the_next_one_goes_on",
            f"{_SEARCH}/test_fair_share.py::test_a_flood_of_one_tenant_leaves_room_for_another",
            f"{_SEARCH}/test_fair_share.py::test_what_waits_of_one_tenant_is_bounded_and_another_is_not_refused",
        ),
    ),
    # --- streams and vectors ----------------------------------------------------------------------------------------
    Attack(
        "SSE",
        "foreign project, foreign or absurd Last-Event-ID, newline in ids",
        (
            f"{_NOTIFIER}/test_streams.py::test_another_tenants_project_and_a_missing_one_are_the_same_404",
            f"{_NOTIFIER}/test_streams.py::test_a_malformed_id_is_refused",
            f"{_NOTIFIER}/test_streams.py::test_an_id_from_the_future_is_answered_with_a_reset",
            f"{_NOTIFIER}/test_guards.py::test_the_tenants_feed_is_no_project",
            f"{_ROUTES}::test_ids_of_events_lead_only_through_the_callers_own_feed",
        ),
    ),
    Attack(
        "SSE",
        "access removed while the stream is open: closed within 5 s",
        (
            f"{_NOTIFIER}/test_revocations.py::test_a_revoked_credential_ends_its_streams_and_no_others",
            f"{_NOTIFIER}/test_revocations.py::test_a_removed_member_is_cut_off_on_every_replica",
            f"{_NOTIFIER}/test_revocations.py::test_a_deleted_tenants_streams_end",
        ),
    ),
    Attack(
        "vectors",
        "filters that try to widen, foreign point ids, 10,000 random searches with canaries",
        (
            f"{_VECTORS}::test_ten_thousand_hostile_searches_find_nothing_foreign",
            f"{_VECTORS}::test_a_filter_in_the_engines_own_language_is_refused",
            f"{_VECTORS}::test_the_same_ids_under_two_tenants_are_two_points",
            "tests/services/indexing/vectors/test_isolation.py::test_no_filter_finds_more_or_less_than_it_says_within_its_own_project",
            "tests/services/indexing/vectors/test_isolation.py::test_scores_do_not_depend_on_what_other_projects_hold",
        ),
    ),
    # --- bus --------------------------------------------------------------------------------------------------------
    Attack(
        "bus",
        "an event whose tenant is not its aggregate's, for every handler and follower",
        (
            f"{_EVENTS}::test_an_event_about_another_tenants_things_changes_nothing",
            f"{_EVENTS}::test_an_event_of_another_tenant_ends_no_stream",
            f"{_EVENTS}::test_progress_under_another_tenant_reaches_nobody",
        ),
    ),
    Attack(
        "bus", "an unknown schema version", (f"{_EVENTS}::test_an_unknown_version_is_quarantined_and_changes_nothing",)
    ),
    Attack(
        "bus",
        "one service writing as another",
        (
            "tests/infra/test_redis_acl.py::test_a_service_may_do_with_keys_what_its_part_needs_and_nothing_else",
            "tests/infra/test_redis_acl.py::test_nobody_else_gets_in",
        ),
    ),
    # --- the rest ---------------------------------------------------------------------------------------------------
    Attack(
        "webhooks (SSRF)",
        "loopback, private, link-local, odd notations, rebinding, redirects, other ports and schemes",
        not_tried="the product sends no webhooks yet; `uv run test` finds their tables and routes when it does",
    ),
    Attack(
        "limits",
        "X-Forwarded-For rotation",
        (
            f"{_GATEWAY}/admission/test_rate_limits.py::test_only_a_trusted_proxy_says_who_the_client_is",
            f"{_GATEWAY}/admission/test_rate_limits.py::test_one_ipv6_subscriber_is_one_client",
        ),
    ),
    Attack(
        "limits",
        "hops forged, with ports, scopes and odd notations; an untrusted peer that forwards",
        (
            f"{_GATEWAY}/admission/test_rate_limits.py::test_hops_are_counted_from_the_nearest",
            f"{_GATEWAY}/admission/test_rate_limits.py::test_two_clients_of_a_trusted_proxy_are_two",
        ),
    ),
    Attack(
        "limits",
        "strangers and guesses at an address whose owner has a credential; a flood of exchanges",
        (
            f"{_GATEWAY}/admission/test_concurrency_limits.py::test_what_strangers_do_from_an_address_refuses_no_valid_credential_there",
            f"{_GATEWAY}/admission/test_concurrency_limits.py::test_who_guesses_at_an_address_locks_out_no_credential_that_has_counted_before",
            f"{_GATEWAY}/admission/test_concurrency_limits.py::test_an_address_has_a_share_of_the_questions_to_identity",
        ),
    ),
    Attack(
        "shares",
        "bodies that do not come or come by the byte, many large ones, many requests of one tenant",
        (
            f"{_GATEWAY}/admission/test_concurrency_limits.py::test_bodies_that_do_not_come_take_no_connection_to_a_service",
            f"{_GATEWAY}/admission/test_concurrency_limits.py::test_a_body_by_the_byte_is_not_waited_for",
            f"{_GATEWAY}/admission/test_concurrency_limits.py::test_bodies_have_a_share_of_the_memory",
            f"{_GATEWAY}/admission/test_concurrency_limits.py::test_a_tenant_has_its_share_of_a_service_and_its_neighbour_gets_in",
            f"{_GATEWAY}/admission/test_concurrency_limits.py::test_streams_have_a_share_for_each_tenant",
        ),
    ),
    Attack(
        "shares",
        "connections kept by line ends, by the rest of a body, by slow headers, by not reading; thousands of them",
        (f"{_GATEWAY}/inbound/test_connections.py",),
    ),
    Attack(
        "shares",
        "chunk extensions and trailers without end",
        (f"{_GATEWAY}/inbound/test_connections.py::test_what_surrounds_a_body_is_bounded_by_the_body",),
    ),
    Attack(
        "shares",
        "long paths, garbage and upgrades to fill the log",
        (
            f"{_GATEWAY}/test_access_log.py",
            f"{_GATEWAY}/inbound/test_wire.py::test_an_address_that_is_too_long_is_told_as_every_error_is",
        ),
    ),
    Attack(
        "internal headers",
        "traceparent, tracestate, baggage, b3",
        (f"{_GATEWAY}/inbound/test_headers.py::test_a_client_does_not_say_which_trace_it_is",),
    ),
    Attack(
        "cookies",
        "names that white space makes look like ours",
        (
            f"{_GATEWAY}/admission/test_credentials.py::test_a_cookie_whose_name_only_looks_like_ours_is_not_ours",
            f"{_GATEWAY}/inbound/test_headers.py::test_only_cookies_with_a_name_of_visible_ascii_reach_the_sign_in",
        ),
    ),
    Attack(
        "limits",
        "bursts at a window's edge",
        (
            f"{_GATEWAY}/admission/test_rate_limits.py::test_a_burst_gets_the_quota_and_no_more",
            f"{_GATEWAY}/admission/test_rate_limits.py::test_permits_come_back_evenly",
        ),
    ),
    Attack(
        "limits",
        "key rotation inside a tenant, guessing",
        (
            f"{_GATEWAY}/admission/test_rate_limits.py::test_a_tenant_over_its_limit_is_429_whatever_key_it_uses",
            f"{_GATEWAY}/admission/test_rate_limits.py::test_guessing_credentials_is_stopped_before_identity_is_asked",
        ),
    ),
    Attack(
        "limits",
        "Redis down: sign-in fails closed, reads fall back to a local limit",
        (
            f"{_GATEWAY}/admission/test_rate_limits.py::test_sign_in_fails_closed_without_redis_and_the_rest_goes_on",
            f"{_GATEWAY}/admission/test_rate_limits.py::test_without_redis_the_limit_is_kept_by_this_process_alone",
        ),
    ),
    Attack(
        "keys and secrets",
        "kept as hashes, shown once",
        (
            f"{_IDENTITY}/test_api_keys.py::test_a_key_is_shown_once_and_kept_as_a_hash",
            f"{_IDENTITY}/test_sessions.py::test_the_cookies_value_is_not_stored",
            f"{_IDENTITY}/test_invitations.py::test_the_token_is_shown_once_and_not_stored",
            f"{_IDENTITY}/test_signing_keys.py::test_the_stored_keys_are_useless_without_the_encryption_key",
            f"{_CANARIES}::test_no_secret_is_in_a_row_of_any_table",
        ),
    ),
    Attack(
        "keys and secrets",
        "never in logs, traces, metrics, Redis or dead letters (planted canaries)",
        (
            f"{_CANARIES}::test_no_secret_and_no_word_is_in_the_logs",
            f"{_CANARIES}::test_no_secret_and_no_word_is_in_a_trace",
            f"{_CANARIES}::test_metrics_name_no_tenant_and_nothing_of_a_tenants",
            f"{_CANARIES}::test_no_secret_is_in_redis_and_words_are_in_the_victims_events_alone",
            "tests/shared/test_guards.py::test_an_error_of_sql_is_told_without_the_values",
            "tests/shared/test_guards.py::test_what_a_poisoned_entry_holds_is_not_logged",
        ),
    ),
    Attack(
        "audit",
        "no update or delete grant, the chain verifies, a changed row is found",
        not_tried="there is no audit log yet; its table will need an entry in the registry, with its privileges",
    ),
)


def exists(test: str) -> bool:
    """Whether there is such a test, or such a file of tests; looked up in the source, which costs nothing."""
    path, _, name = test.partition("::")
    return name.partition("[")[0] in _tests_in(path) if name else bool(_tests_in(path))


@lru_cache(maxsize=256)
def _tests_in(path: str) -> frozenset[str]:
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, functions) and node.name.startswith("test_"))


def main() -> None:
    """Print the list."""
    for group in dict.fromkeys(attack.group for attack in ATTACKS):
        print(f"\n{group}")
        for attack in ATTACKS:
            if attack.group == group:
                print(f"  {attack.what}")
                for line in attack.tests or (f"not tried: {attack.not_tried}",):
                    print(f"      {line}")
    tried = [attack for attack in ATTACKS if attack.tests]
    tests = {test for attack in tried for test in attack.tests}
    print(f"\n{len(tried)} of {len(ATTACKS)} attacks are tried, by {len(tests)} tests; the others say why not.")


if __name__ == "__main__":
    main()
