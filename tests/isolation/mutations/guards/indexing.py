"""Guards of indexing: the vector store, search, jobs."""

from tests.isolation.mutations.model import Change, Mutation, replace

_HERE = "services/indexing"
_VECTORS = "tests/services/indexing/vectors/test_isolation.py"
_SEARCHES = "tests/isolation/test_vectors.py::test_ten_thousand_hostile_searches_find_nothing_foreign"
_STORE = f"{_HERE}/vectors/store.py"
_PIPELINE = "tests/services/indexing/pipeline"
_EMBEDDERS = "tests/services/indexing/embedders/test_minilm.py"
_LISTED = "tests/services/indexing/documents/test_listed_chunks.py"
_RERANKING = "tests/services/indexing/search/test_reranking.py"
_SENTENCES = "tests/services/indexing/search/test_best_sentences.py"
_SIMILAR = "tests/services/indexing/search/test_similar.py"
_MEANWHILE = "tests/services/indexing/search/test_meanwhile.py"
_ADMITTED = "        heard.require(principal, project_id, scope)\n"
_STILL_ADMITTED = "        heard.require(self.principal, self.project_id, self.scope)\n"
_GENERATIONS = "tests/services/indexing/generations"
_VIEWS = f"{_HERE}/generations/views.py"
_OWNER, _VIEWER = "scope=Scope.PROJECTS_WRITE)\n", "scope=Scope.DOCUMENTS_READ)\n"
_QDRANT = "tests/services/indexing/vectors/test_qdrant_engine.py"
_MCP = f"{_HERE}/agents/mcp"
_MCP_TESTS = "tests/services/indexing/agents/test_mcp_door.py"
_SCOPE = 'self._scope = (equals("tenant_id", self._tenant_id), equals("project_id", self._project_id))'

_RUNS = "tests/services/indexing/agents/runs/test_runs.py"
MUTATIONS = (
    Mutation(
        "run-start-access",
        "a run is started by who may search the project",
        replace(
            f"{_HERE}/agents/runs/service.py",
            "    await directory.require(session, principal, project_id=project_id, scope=Scope.SEARCH)\n    given = ",
            "    given = ",
        ),
        [f"{_RUNS}::test_a_run_takes_the_right_to_search"],
    ),
    Mutation(
        "run-read-access",
        "a run is read by who may search its project",
        replace(
            f"{_HERE}/agents/runs/service.py",
            "    await directory.require(session, principal, project_id=project_id, scope=Scope.SEARCH)\n    return await _detail",
            "    return await _detail",
        ),
        [f"{_RUNS}::test_to_read_a_run_takes_the_right_to_search"],
    ),
    Mutation(
        "run-list-access",
        "runs are listed for who may read documents, not for a credential of search alone",
        replace(
            f"{_HERE}/agents/runs/service.py",
            "    await directory.require(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)\n    rows",
            "    await directory.require(session, principal, project_id=project_id, scope=Scope.SEARCH)\n    rows",
        ),
        [f"{_RUNS}::test_with_search_alone_runs_are_followed_by_id_and_not_listed"],
    ),
    Mutation(
        "run-owner",
        "a run is cancelled and deleted by its own user, or by who may change documents",
        replace(
            f"{_HERE}/agents/runs/service.py",
            "    if run.user_id is None or run.user_id != principal.user_id:\n",
            "    if False:\n",
        ),
        [f"{_RUNS}::test_with_search_alone_runs_are_followed_by_id_and_not_listed"],
    ),
    Mutation(
        "run-project",
        "a run is found under its own project only",
        replace(
            f"{_HERE}/agents/runs/repository.py",
            '_BY_ID.where(Run.project_id == bindparam("project_id", type_=Uuid()), _INTACT)',
            "_BY_ID.where(_INTACT)",
        ),
        [f"{_RUNS}::test_a_run_is_not_found_under_another_project"],
    ),
    Mutation(
        "run-deleted-document",
        "a run that has read a deleted document is not shown",
        replace(
            f"{_HERE}/agents/runs/repository.py",
            '_BY_ID.where(Run.project_id == bindparam("project_id", type_=Uuid()), _INTACT)',
            '_BY_ID.where(Run.project_id == bindparam("project_id", type_=Uuid()))',
        ),
        [f"{_RUNS}::test_a_run_that_has_read_a_deleted_document_is_gone_at_once_and_soon_for_good"],
    ),
    Mutation(
        "run-caller-now",
        "while a run lasts, identity is asked what its caller may do",
        replace(
            f"{_HERE}/agents/caller.py",
            "principal = await self._authority.now(self.principal)",
            "principal = self.principal",
        ),
        [f"{_RUNS}::test_access_removed_ends_the_run_within_five_seconds"],
    ),
    Mutation(
        "bounds-unpacked",
        "what the parts of a document unpack to is limited",
        replace(
            f"{_HERE}/pipeline/formats/limits.py",
            "if size > self.part_bytes or self.bytes < 0 or self.parts < 0:",
            "if False:",
        ),
        [f"{_PIPELINE}/test_pptx.py::test_bombs_are_refused", f"{_PIPELINE}/test_xlsx.py::test_bombs_are_refused"],
    ),
    Mutation(
        "extraction-location",
        "a process that reads a document says of a passage's place only what a place has",
        replace(f"{_HERE}/pipeline/reply_validation.py", '@with_config(ConfigDict(extra="forbid"))\n', ""),
        [f"{_PIPELINE}/test_extraction.py::test_a_process_taken_over_can_only_spoil_its_own_document"],
    ),
    Mutation(
        "vectors-tenant",
        "every call of the vector store is limited to one tenant",
        replace(_STORE, _SCOPE, 'self._scope = (equals("project_id", self._project_id),)'),
        [_SEARCHES],
    ),
    Mutation(
        "vectors-project",
        "every call of the vector store is limited to one project",
        replace(_STORE, _SCOPE, 'self._scope = (equals("tenant_id", self._tenant_id),)'),
        [_SEARCHES],
    ),
    Mutation(
        "vectors-nesting",
        "a user's filter is nested inside the tenant's",
        replace(
            f"{_HERE}/vectors/scoped_filters.py",
            "return every(*scope, *(every(condition) for condition in conditions))",
            "return some(every(*scope), *conditions)",
        ),
        [_SEARCHES],
    ),
    Mutation(
        "vectors-second-look",
        "results of the engine are checked again",
        replace(
            _STORE,
            'if (record["tenant_id"], record["project_id"]) != (str(self._tenant_id), str(self._project_id)):',
            "if False:",
        ),
        [f"{_VECTORS}::test_a_foreign_point_from_a_faulty_engine_is_never_shown"],
    ),
    Mutation(
        "vectors-statistics",
        "term statistics are the project's own",
        replace(_STORE, "corpus=self._within(*generation)", "corpus=every(*generation)"),
        [f"{_VECTORS}::test_scores_do_not_depend_on_what_other_projects_hold"],
    ),
    Mutation(
        "vectors-qdrant-statistics",
        "a Qdrant server uses term statistics of the project only",
        replace(
            f"{_HERE}/vectors/qdrant/engine.py",
            'statistics = models.SearchParams(idf=models.IdfCorpusParams(corpus=filter_of(search["corpus"])))',
            "statistics = None",
        ),
        [f"{_VECTORS}::test_scores_do_not_depend_on_what_other_projects_hold"],
    ),
    Mutation(
        "vectors-qdrant-version",
        "a Qdrant server without per-project statistics is not used",
        replace(
            f"{_HERE}/vectors/qdrant/collection.py",
            "if parts is None or tuple(map(int, parts.groups())) < _OLDEST:",
            "if False:",
        ),
        [f"{_QDRANT}::test_a_server_that_does_not_know_scoped_statistics_is_not_used"],
    ),
    Mutation(
        "vectors-qdrant-filter",
        "a search on a Qdrant server carries its filter",
        replace(
            f"{_HERE}/vectors/qdrant/engine.py",
            "        filter=where,\n        params=params,",
            "        params=params,",
        ),
        [_SEARCHES],
    ),
    Mutation(
        "vectors-qdrant-grammar",
        "a condition that cannot be sent to a Qdrant server is an error",
        replace(
            f"{_HERE}/vectors/qdrant/filter_translation.py",
            'case {"must": [*conditions], **rest} if not rest:',
            'case {"must": [*conditions], **rest}:',
        ),
        [f"{_QDRANT}::test_a_condition_the_engine_does_not_know_is_an_error_and_never_ignored"],
    ),
    Mutation(
        "vectors-socket",
        "the socket of a shared engine accepts only the service's own account",
        replace(f"{_HERE}/vectors/embedded/engine_server.py", "fresh.chmod(0o600)", "fresh.chmod(0o666)"),
        [
            "tests/services/indexing/vectors/test_remote_engine.py::test_the_socket_is_for_its_owner_alone_and_goes_with_it"
        ],
    ),
    Mutation(
        "vectors-point-tenant",
        "a point's id contains its tenant, so that no tenant can overwrite another's",
        replace(
            f"{_HERE}/vectors/points.py",
            'f"{tenant_id}:{project_id}:{of.document_id}',
            'f"{project_id}:{of.document_id}',
        ),
        ["tests/isolation/test_vectors.py::test_the_same_ids_under_two_tenants_are_two_points"],
    ),
    Mutation(
        "vectors-point-project",
        "a point's id contains its project",
        replace(
            f"{_HERE}/vectors/points.py",
            'f"{tenant_id}:{project_id}:{of.document_id}',
            'f"{tenant_id}:{of.document_id}',
        ),
        [f"{_VECTORS}::test_the_same_document_id_in_two_projects_is_two_documents"],
    ),
    Mutation(
        "vectors-erasure",
        "erasing a tenant erases only that tenant",
        replace(_STORE, 'self._scope = every(equals("tenant_id", _id(tenant_id)))', "self._scope = every()"),
        ["tests/services/indexing/documents/test_vector_sync.py::test_a_deleted_tenant_is_removed_whole_and_no_other"],
    ),
    Mutation(
        "vectors-newer-change",
        "a change that grew while it was processed stays pending",
        replace(
            f"{_HERE}/documents/vector_changes.py",
            "grew = current.revision != change.revision",
            "grew = False",
        ),
        [
            "tests/services/indexing/documents/test_vector_changes.py"
            "::test_a_change_that_grew_meanwhile_stays_owed_and_begins_again"
        ],
    ),
    Mutation(
        "vectors-no-beginning",
        "no version starts while points of its document are being deleted",
        replace(
            f"{_HERE}/jobs/service.py",
            "    await documents.begin(session, lease.document_id)\n",
            "",
        ),
        ["tests/services/indexing/documents/test_vector_changes.py::test_no_version_begins_while_points_are_deleted"],
    ),
    Mutation(
        "vectors-filter-weight",
        "the cost of a filter is limited",
        replace(_STORE, "if weighs > CHEAP and weighs * await engine.count(self._within()) > MOST:", "if False:"),
        ["tests/services/indexing/vectors/test_filter_costs.py::test_an_engine_is_not_asked_for_more_than_the_bound"],
    ),
    Mutation(
        "vectors-missing-id",
        "without a tenant there is no store",
        replace(_STORE, "if not isinstance(value, UUID) or value.int == 0:", "if False:"),
        ["tests/isolation/test_vectors.py::test_without_a_tenant_there_is_no_store"],
    ),
    Mutation(
        "search-access",
        "a search checks the caller's role in the project",
        (Change("shared/project_access.py", _ADMITTED, ""), Change("shared/project_access.py", _STILL_ADMITTED, "")),
        ["tests/services/indexing/search/test_search.py::test_a_viewer_may_search_and_a_stranger_may_not_know"],
    ),
    Mutation(
        "search-access-first",
        "nothing is computed for callers who may not search",
        replace("shared/project_access.py", _ADMITTED, ""),
        ["tests/services/indexing/search/test_search.py::test_nothing_is_worked_out_for_who_may_not_search"],
    ),
    Mutation(
        "search-access-again",
        "an admitted search checks its permission again when it reads",
        replace("shared/project_access.py", _STILL_ADMITTED, ""),
        [
            f"{_MEANWHILE}::test_a_project_deleted_meanwhile_is_404",
            f"{_MEANWHILE}::test_a_role_taken_away_meanwhile_is_404",
        ],
    ),
    Mutation(
        "search-access-empty",
        "a search without hits checks its permission again as well",
        replace(f"{_HERE}/search/live_hits.py", "range(0, len(fresh) or 1,", "range(0, len(fresh),"),
        [f"{_MEANWHILE}::test_a_project_deleted_meanwhile_is_404"],
    ),
    Mutation(
        "search-lease-again",
        "a search that has waited does not use a projection without a lease",
        replace("shared/project_access.py", "        self.directory.check(tenant_of(session))\n", ""),
        [f"{_MEANWHILE}::test_an_owner_not_heard_of_meanwhile_is_503"],
    ),
    Mutation(
        "search-live",
        "search returns only the live version",
        replace(
            f"{_HERE}/documents/repository.py",
            "        Document.live_version == Chunk.version,\n",
            "",
        ),
        ["tests/services/indexing/test_guards.py::test_a_version_that_is_not_live_is_not_shown"],
    ),
    Mutation(
        "search-project",
        "passages come only from the project searched",
        replace(
            f"{_HERE}/documents/repository.py",
            "        Document.project_id == OF_PROJECT,\n        Document.live_version == Chunk",
            "        Document.live_version == Chunk",
        ),
        ["tests/services/indexing/test_guards.py::test_a_hit_of_another_project_is_not_shown"],
    ),
    Mutation(
        "chunks-project",
        "chunks are listed only of documents of the project",
        replace(f"{_HERE}/documents/listed_chunks.py", "        Document.project_id == OF_PROJECT,\n", ""),
        [f"{_LISTED}::test_a_document_of_another_project_is_not_found"],
    ),
    Mutation(
        "chunks-deleted",
        "chunks of a deleted document are not listed",
        replace(f"{_HERE}/documents/listed_chunks.py", "        Document.deleted.is_(False),\n", ""),
        [f"{_LISTED}::test_a_deleted_document_is_gone_at_once"],
    ),
    Mutation(
        "chunks-live",
        "only chunks of the live version are listed",
        replace(f"{_HERE}/documents/listed_chunks.py", "        Chunk.version == Document.live_version,\n", ""),
        [f"{_LISTED}::test_a_list_is_never_of_two_versions"],
    ),
    Mutation(
        "chunks-version",
        "a cursor continues only in the version it is of",
        replace(
            f"{_HERE}/documents/listed_chunks.py",
            "if position is not None and position.version != version:",
            "if False:",
        ),
        [f"{_LISTED}::test_a_list_is_never_of_two_versions"],
    ),
    Mutation(
        "chunks-cursor",
        "a cursor continues only the list of its document",
        replace(f"{_HERE}/documents/listed_chunks.py", "named == str(document_id) and ", ""),
        [f"{_LISTED}::test_a_cursor_of_something_else_is_refused"],
    ),
    Mutation(
        "search-sentences-bounded",
        "the number of sentences that a search compares is limited",
        replace(f"{_HERE}/search/best_sentences.py", "[: min(MOST_EACH, left)]", ""),
        [f"{_SENTENCES}::test_work_is_bounded_and_the_best_passages_come_first"],
    ),
    Mutation(
        "search-sentences-live",
        "a search that has compared sentences checks again what may be shown",
        replace(
            f"{_HERE}/search/service.py",
            "        found = replace(found, page=await ranking.still_live(found.page))\n",
            "",
        ),
        [f"{_SENTENCES}::test_what_is_deleted_while_sentences_are_compared_is_not_shown"],
    ),
    Mutation(
        "rerank-scores",
        "a reranker's response counts only with one finite score for each passage",
        replace(
            f"{_HERE}/search/reranking/endpoint.py",
            "if len(results) != count or scores.keys() != set(range(count)) or not all(map(math.isfinite, scores.values())):",
            "if False:",
        ),
        [f"{_RERANKING}::test_anything_but_a_score_for_each_text_is_refused"],
    ),
    Mutation(
        "rerank-share",
        "a tenant's requests to the reranker leave room for others",
        replace(
            f"{_HERE}/search/reranking/endpoint.py", "FairSemaphore(_AT_ONCE, each=_EACH)", "FairSemaphore(_AT_ONCE)"
        ),
        [f"{_RERANKING}::test_a_tenant_that_asks_much_leaves_others_their_turn"],
    ),
    Mutation(
        "similar-access",
        "similar documents are shown only to who may search the project",
        (Change("shared/project_access.py", _ADMITTED, ""), Change("shared/project_access.py", _STILL_ADMITTED, "")),
        [f"{_SIMILAR}::test_who_may_not_search_learns_nothing"],
    ),
    Mutation(
        "similar-project",
        "similar documents are found only for a document of the project",
        replace(f"{_HERE}/search/similar/repository.py", "        Document.project_id == OF_PROJECT,\n", ""),
        [f"{_SIMILAR}::test_who_may_not_search_learns_nothing"],
    ),
    Mutation(
        "similar-deleted",
        "similar documents are not found for a deleted document",
        replace(f"{_HERE}/search/similar/repository.py", "        Document.deleted.is_(False),\n", ""),
        [f"{_SIMILAR}::test_what_is_deleted_is_neither_asked_about_nor_found"],
    ),
    Mutation(
        "similar-sampled",
        "the number of a document's vectors that it is compared by is limited",
        replace(
            f"{_HERE}/search/similar/service.py",
            " if chunks > SAMPLED else [*range(chunks)]",
            " if False else [*range(chunks)]",
        ),
        [f"{_SIMILAR}::test_a_long_document_costs_what_a_short_one_does"],
    ),
    Mutation(
        "search-cursor-shown",
        "a page never repeats earlier items, even after deletions",
        replace(f"{_HERE}/search/live_hits.py", " and cursors.mark(hit) not in shown]", "]"),
        ["tests/services/indexing/search/test_search.py::test_a_deletion_between_two_pages_skips_nothing"],
    ),
    Mutation(
        "search-words-bounded",
        "the number of words of a query is limited",
        replace(f"{_HERE}/analysis/multilingual.py", "if word in words or len(words) < MAX_WORDS:", "if True:"),
        ["tests/services/indexing/analysis/test_multilingual.py::test_a_query_is_bounded"],
    ),
    Mutation(
        "search-conditions-bounded",
        "the number of phrases and exclusions of a query is limited",
        replace(f"{_HERE}/search/query_syntax.py", "(query), MAX_CONDITIONS)", "(query), None)"),
        ["tests/services/indexing/search/test_query_syntax.py::test_conditions_are_bounded"],
    ),
    Mutation(
        "search-facets-bounded",
        "the amount of metadata that facets are counted over is limited",
        replace(f"{_HERE}/search/facets.py", "if read > MAX_BYTES:", "if False:"),
        [
            "tests/services/indexing/search/test_facets.py::"
            "test_metadata_beyond_the_budget_is_not_counted_and_the_answer_says_so"
        ],
    ),
    Mutation(
        "search-filter-bounded",
        "the number of expensive conditions in a filter is limited",
        replace(
            f"{_HERE}/vectors/filters.py",
            "            _check_costs([node for node in nodes if isinstance(node, dict)])\n",
            "",
        ),
        ["tests/services/indexing/vectors/test_filters.py::test_conditions_that_cost_an_engine_much_are_few"],
    ),
    Mutation(
        "search-page-bounded",
        "the size of a search page is limited",
        replace(f"{_HERE}/search/live_hits.py", " or (found and size > MAX_PAGE_BYTES)", ""),
        [
            "tests/services/indexing/search/test_search.py::test_a_page_of_large_items_is_shorter_and_the_next_one_goes_on"
        ],
    ),
    Mutation(
        "search-group-bounded",
        "the size of a page of documents is limited",
        replace(f"{_HERE}/search/grouping.py", " or (page.hits and bytes_of_page > MAX_PAGE_BYTES)", ""),
        ["tests/services/indexing/search/test_grouping.py::test_a_page_is_bounded_by_what_all_its_passages_take"],
    ),
    Mutation(
        "search-deadline",
        "a search ends in the time that its client gives",
        replace(f"{_HERE}/search/progress.py", "self._limit.reschedule(self._began + self._given)", "pass"),
        [
            "tests/services/indexing/search/test_partial.py::"
            "test_what_a_search_cannot_be_answered_without_ends_it_in_time"
        ],
    ),
    Mutation(
        "search-read-after-project",
        "a search waits only for uploads to its own project",
        replace(f"{_HERE}/documents/arrivals.py", 'Document.project_id == bindparam("project_id", type_=Uuid()),', ""),
        [
            "tests/services/indexing/search/test_read_after.py::"
            "test_another_tenants_or_projects_document_is_as_one_that_does_not_exist"
        ],
    ),
    Mutation(
        "search-read-after-places",
        "the number of a tenant's searches that wait for uploads is limited",
        replace(f"{_HERE}/search/read_after.py", "if self._held[tenant_id] >= EACH:", "if False:"),
        ["tests/services/indexing/search/test_read_after.py::test_places_to_wait_are_few_for_each_tenant"],
    ),
    Mutation(
        "search-shares",
        "a tenant's searches leave capacity to others",
        replace(f"{_HERE}/search/fair_share.py", "FairSemaphore(_SEARCHES, each=1)", "FairSemaphore(_SEARCHES)"),
        ["tests/services/indexing/search/test_fair_share.py::test_a_flood_of_one_tenant_leaves_room_for_another"],
    ),
    Mutation(
        "search-rests-by-cost",
        "searches delayed by an expensive neighbour are not paused for queueing up",
        replace(
            f"{_HERE}/search/fair_share.py",
            "return seconds if mine > 1 and costs_enough else 0.0",
            "return seconds if mine > 1 else 0.0",
        ),
        [
            "tests/services/indexing/search/test_fair_share.py::test_what_a_costly_neighbour_delays_does_not_rest_as_well"
        ],
    ),
    Mutation(
        "search-rests",
        "the tenant with the most expensive searches pauses between them while others search",
        replace(f"{_HERE}/search/fair_share.py", "if rest := self._rest(tenant_id, now - began, now):", "if False:"),
        ["tests/services/indexing/search/test_fair_share.py::test_whose_searches_cost_most_rests_while_others_search"],
    ),
    Mutation(
        "search-parsing",
        "a tenant's requests are parsed in its turn",
        replace(
            f"{_HERE}/search/service.py",
            "        async with engine.shares.turn(tenant_id):\n            request = await unparsed.parsed()\n",
            "        request = await unparsed.parsed()\n        async with engine.shares.turn(tenant_id):\n",
        ),
        ["tests/services/indexing/search/test_search.py::test_requests_are_parsed_in_their_tenants_turn"],
    ),
    Mutation(
        "search-waiting",
        "the number of a tenant's waiting searches is limited",
        replace(f"{_HERE}/search/fair_share.py", "if self._asked[tenant_id] >= _ASKED_EACH:", "if False:"),
        [
            "tests/services/indexing/search/test_fair_share.py::"
            "test_what_waits_of_one_tenant_is_bounded_and_another_is_not_refused"
        ],
    ),
    Mutation(
        "search-slices",
        "computation for one tenant yields to another's",
        replace(
            f"{_HERE}/search/fair_share.py", "_SHORT_SLICE_SECONDS: Final = 0.0003", "_SHORT_SLICE_SECONDS: Final = 5.0"
        ),
        [
            "tests/services/indexing/search/test_fair_share.py::"
            "test_endless_work_of_one_tenant_takes_turns_and_stops_when_its_caller_is_gone"
        ],
    ),
    Mutation(
        "search-cursor",
        "a cursor belongs to one query of one project",
        replace(f"{_HERE}/search/cursors.py", "if made_for != query or rest", "if rest"),
        ["tests/services/indexing/search/test_search.py::test_a_cursor_of_another_query_is_refused"],
    ),
    Mutation(
        "search-cursor-project",
        "a cursor of another project is refused",
        replace(f"{_HERE}/search/service.py", "        str(admission.project_id),\n", ""),
        ["tests/services/indexing/test_guards.py::test_a_cursor_of_another_project_is_refused"],
    ),
    Mutation(
        "jobs-project",
        "a job is found only in its own project",
        replace(
            f"{_HERE}/jobs/repository.py",
            "select(Job).where(Job.id == job_id, Job.project_id == project_id)",
            "select(Job).where(Job.id == job_id)",
        ),
        ["tests/services/indexing/jobs/test_router.py::test_a_job_of_another_project_cannot_be_redriven"],
    ),
    Mutation(
        "jobs-list",
        "a list contains jobs of one project only",
        replace(f"{_HERE}/jobs/repository.py", ".where(Job.project_id == project_id, _VISIBLE)", ".where(_VISIBLE)"),
        ["tests/services/indexing/test_guards.py::test_jobs_are_listed_within_a_project"],
    ),
    Mutation(
        "jobs-running",
        "progress contains jobs of one project only",
        replace(
            f"{_HERE}/jobs/repository.py",
            ".where(Job.project_id == project_id, Job.state.in_(RUNNING), _VISIBLE)",
            ".where(Job.state.in_(RUNNING), _VISIBLE)",
        ),
        ["tests/services/indexing/test_guards.py::test_jobs_are_listed_within_a_project"],
    ),
    Mutation(
        "jobs-redrive-scope",
        "redriving requires permission to write",
        replace(f"{_HERE}/jobs/views.py", "scope=Scope.DOCUMENTS_WRITE", "scope=Scope.DOCUMENTS_READ"),
        ["tests/services/indexing/jobs/test_router.py::test_roles_decide_who_may_read_and_who_may_redrive"],
    ),
    Mutation(
        "generations-write-scope",
        "only who may change a project may index it again",
        (
            Change(
                _VIEWS,
                f"{_OWNER}    return generation_out(await service.request",
                f"{_VIEWER}    return generation_out(await service.request",
            ),
            Change(
                _VIEWS,
                f"{_OWNER}    return await _as_written(session, await service.cancel",
                f"{_VIEWER}    return await _as_written(session, await service.cancel",
            ),
            Change(
                _VIEWS,
                f"{_OWNER}    return await _as_written(session, await service.roll_back",
                f"{_VIEWER}    return await _as_written(session, await service.roll_back",
            ),
        ),
        [f"{_GENERATIONS}/test_reindex.py::test_who_may_index_again"],
    ),
    Mutation(
        "generations-project",
        "a generation is found only in its own project",
        replace(
            f"{_HERE}/generations/repository.py",
            "select(Generation).where(Generation.project_id == project_id, Generation.number == number)",
            "select(Generation).where(Generation.number == number)",
        ),
        [f"{_GENERATIONS}/test_reindex.py::test_a_generation_of_another_project_is_not_found"],
    ),
    Mutation(
        "generations-search-reads-one",
        "a search reads points of one generation",
        replace(f"{_HERE}/search/service.py", "        generation=generation.number,\n", ""),
        [f"{_GENERATIONS}/test_reindex.py::test_search_answers_the_same_before_during_and_after"],
    ),
    Mutation(
        "generations-second-look",
        "points of another generation are refused when an engine returns them",
        replace(_STORE, 'if generation not in (None, record["generation"]):', "if False:"),
        [f"{_VECTORS}::test_a_point_of_another_generation_from_a_faulty_engine_is_never_shown"],
    ),
    Mutation(
        "generations-live-meanwhile",
        "a version that goes live while a generation is built is in it",
        replace(
            f"{_HERE}/generations/service.py",
            "        await repository.enqueue(session, project_id, building, [document_id])\n",
            "        pass\n",
        ),
        [f"{_GENERATIONS}/test_steps.py::test_a_version_that_goes_live_after_the_walk_stops_the_switch"],
    ),
    Mutation(
        "generations-written-elsewhere",
        "a version whose points are in a generation that search no longer reads does not go live",
        replace(
            f"{_HERE}/generations/service.py",
            "if current is None or current.number != written:",
            "if current is None:",
        ),
        [f"{_GENERATIONS}/test_reindex.py::test_a_job_that_began_before_the_switch_goes_live_after_it"],
    ),
    Mutation(
        "generations-bounded",
        "a project has a limited number of generations",
        replace(f"{_HERE}/generations/service.py", "if len(rows) >= _MOST:", "if False:"),
        [f"{_GENERATIONS}/test_reindex.py::test_a_project_has_few_generations"],
    ),
    Mutation(
        "generations-error-words",
        "clients are not told what an embedding endpoint said",
        replace(f"{_HERE}/generations/views.py", "error=_UNAVAILABLE if row.error else None", "error=row.error"),
        [f"{_GENERATIONS}/test_drift.py::test_what_fails_is_told_and_goes_on"],
    ),
    Mutation(
        "embedding-redirect",
        "a redirect of an embedding endpoint is not followed with its key",
        replace(f"{_HERE}/embedders/endpoint.py", "allow_redirects=False", "allow_redirects=True"),
        ["tests/services/indexing/embedders/test_endpoint.py::test_a_redirect_is_not_followed"],
    ),
    Mutation(
        "embedding-shares",
        "a tenant leaves places at an embedding endpoint to others",
        replace(
            f"{_HERE}/embedders/endpoint.py",
            "FairSemaphore(_AT_ONCE, each=_EACH)",
            "__import__('asyncio').Semaphore(10_000)",
        ),
        ["tests/services/indexing/embedders/test_endpoint.py::test_tenants_take_turns_and_none_has_all_places"],
    ),
    Mutation(
        "jobs-content-tenant",
        "content is fetched with a token of the job's tenant",
        replace(
            f"{_HERE}/documents/content.py",
            "self._tokens.token('projects', lease.tenant_id)",
            "self._tokens.token('projects', __import__('uuid').uuid4())",
        ),
        ["tests/services/indexing/test_guards.py::test_the_token_content_is_fetched_with_speaks_for_the_jobs_tenant"],
    ),
    Mutation(
        "jobs-fencing",
        "a worker whose lease was taken over writes nothing",
        replace(
            f"{_HERE}/jobs/repository.py",
            ', Job.fencing_token == bindparam("token")',
            "",
        ),
        ["tests/services/indexing/jobs/test_leases.py::test_a_thawed_worker_cannot_write"],
    ),
    Mutation(
        "indexing-erasure-tenant",
        "an event can delete only the tenant of its envelope",
        replace(
            f"{_HERE}/documents/service.py",
            '    if session.info["tenant_id"] != tenant_id:\n',
            "    if False:\n",
        ),
        [
            "tests/services/indexing/jobs/test_requests.py::"
            "test_an_event_that_names_another_tenant_is_refused[indexing.on_tenant_deleted]"
        ],
    ),
    Mutation(
        "run-erasure-tenant",
        "an event can end only the runs of the tenant of its envelope",
        replace(f"{_HERE}/agents/runs/handlers.py", "if event.tenant_id != envelope.tenantid:", "if False:"),
        [
            "tests/services/indexing/jobs/test_requests.py::"
            "test_an_event_that_names_another_tenant_is_refused[indexing.runs.on_tenant_deleted]"
        ],
    ),
    Mutation(
        "indexing-erasure-waits",
        "the rows of a deleted tenant stay until its running jobs have stopped",
        replace(
            f"{_HERE}/documents/erasure.py",
            "    if await session.scalar(select(exists(Job.id).where(Job.state.in_(RUNNING)))):\n",
            "    if False:\n",
        ),
        ["tests/services/indexing/jobs/test_requests.py::test_a_deleted_tenant_leaves_nothing_to_see_or_to_do"],
    ),
    Mutation(
        "shares-extraction",
        "a tenant leaves an extraction process to the others",
        replace(
            f"{_HERE}/pipeline/extraction.py",
            "self._turns = FairSemaphore.with_one_to_spare(size)",
            "self._turns = FairSemaphore(size)",
        ),
        [f"{_PIPELINE}/test_extraction.py::test_a_tenant_leaves_a_process_to_the_others"],
    ),
    Mutation(
        "shares-extraction-politeness",
        "a document that takes long to read gives way to everything else",
        replace(
            f"{_HERE}/pipeline/extraction_child.py", "                give_way(self._copy)", "                pass"
        ),
        [f"{_PIPELINE}/test_extraction.py::test_a_document_that_takes_long_lets_everything_else_go_first"],
    ),
    Mutation(
        "bounds-chunking",
        "the splitter gets a limited piece of the text at a time",
        replace(
            f"{_HERE}/pipeline/chunking.py", "for begin, end in _blocks(text)", "for begin, end in [(0, len(text))]"
        ),
        [f"{_PIPELINE}/test_chunking.py::test_the_splitter_never_sees_more_than_a_block"],
    ),
    Mutation(
        "bounds-code",
        "what is no code is not parsed for longer than code is",
        replace(f"{_HERE}/pipeline/formats/code_grammars.py", "return left < 0", "return False"),
        [f"{_PIPELINE}/test_source_code.py::test_what_takes_many_steps_is_not_parsed_to_the_end"],
    ),
    Mutation(
        "bounds-chunks",
        "the number of chunks of a document is limited",
        replace(f"{_HERE}/pipeline/extraction_child.py", "if len(chunks) > limits.max_chunks:", "if False:"),
        [f"{_PIPELINE}/test_extraction.py::test_the_number_of_chunks_is_limited_where_the_document_is_read"],
    ),
    Mutation(
        "shares-embedding",
        "tenants take turns at each text embedded",
        replace(f"{_HERE}/embedders/minilm.py", "lane.turns.turn(caller),", "lane.turns.turn(0),"),
        [f"{_EMBEDDERS}::test_tenants_take_turns_text_by_text"],
    ),
    Mutation(
        "shares-embedding-lanes",
        "a short document does not wait for the chunks of a long one",
        replace(
            f"{_HERE}/embedders/minilm.py",
            "lane = self._background if background else self._passages",
            "lane = self._passages",
        ),
        [f"{_EMBEDDERS}::test_a_note_does_not_wait_for_background_texts"],
    ),
    Mutation(
        "shares-embedding-waits",
        "chunks of long documents start when no others are waiting",
        replace(
            f"{_HERE}/embedders/minilm.py",
            "if lane is self._background else nullcontext()",
            "if False else nullcontext()",
        ),
        [f"{_EMBEDDERS}::test_background_texts_begin_when_no_others_are_embedded"],
    ),
    Mutation(
        "shares-long-jobs",
        "a long job gives up its place",
        replace(
            f"{_HERE}/jobs/worker_places.py",
            "                raise GaveWay\n            lease",
            "                return\n            lease",
        ),
        ["tests/services/indexing/jobs/test_long_jobs.py::test_long_documents_hold_no_place_of_short_ones"],
    ),
    Mutation(
        "shares-long-jobs-turns",
        "long jobs of several tenants take turns",
        replace(f"{_HERE}/jobs/worker_places.py", "if waited_for:", "if False:"),
        ["tests/services/indexing/jobs/test_long_jobs.py::test_long_jobs_take_turns_and_go_on_where_they_were"],
    ),
    Mutation(
        "shares-long-jobs-steps",
        "a long job goes on when no short one is under way",
        replace(f"{_HERE}/jobs/worker_places.py", "async with self._places.long_steps.piece():", "if True:"),
        ["tests/services/indexing/jobs/test_worker_places.py::test_a_long_job_goes_on_when_no_short_one_is_under_way"],
    ),
    Mutation(
        "shares-extraction-processor",
        "documents of tenants with long documents have low priority from the start",
        replace(
            f"{_HERE}/pipeline/extraction.py", "gives_way = long or tenant_id in self._took_long", "gives_way = long"
        ),
        [f"{_PIPELINE}/test_extraction.py::test_what_tenants_of_long_documents_send_gives_way_from_the_beginning"],
    ),
    Mutation(
        "shares-extraction-pauses",
        "low-priority reading pauses while a short document is waiting",
        replace(f"{_HERE}/pipeline/extraction.py", "await yield_to(self._urgent, reading)", "pass"),
        [f"{_PIPELINE}/test_extraction.py::test_a_document_that_takes_long_pauses_while_something_urgent_is_under_way"],
    ),
    Mutation(
        "shares-urgent-by-tenant",
        "jobs of tenants with long jobs are not urgent",
        replace(
            f"{_HERE}/jobs/worker_places.py",
            "if not lease.long_running and lease.tenant_id not in self.took_long:",
            "if not lease.long_running:",
        ),
        ["tests/services/indexing/jobs/test_worker_places.py::test_what_tenants_of_long_jobs_send_is_not_urgent"],
    ),
    Mutation(
        "shares-extraction-long",
        "a document that takes long to read gives up its process",
        replace(f"{_HERE}/pipeline/extraction.py", "if not long and not await", "if False and not await"),
        [f"{_PIPELINE}/test_extraction.py::test_a_document_that_takes_long_leaves_its_place_to_the_next"],
    ),
    Mutation(
        "shares-embedding-queries",
        "a short query does not wait for long ones",
        replace(
            f"{_HERE}/embedders/minilm.py",
            "lane = self._queries if len(text.encode()) <= _SHORT_QUERY_BYTES else self._long_queries",
            "lane = self._queries",
        ),
        [f"{_EMBEDDERS}::test_a_short_query_waits_for_no_long_ones"],
    ),
    Mutation(
        "jobs-stop-embedding",
        "the embedding of a deleted document stops at once",
        replace(
            f"{_HERE}/jobs/worker.py",
            'lease.stage in ("extracting", "embedding") and',
            'lease.stage == "extracting" and',
        ),
        ["tests/services/indexing/jobs/test_worker.py::test_a_running_job_is_cancelled_while_its_chunks_are_embedded"],
    ),
    Mutation(
        "bounds-metadata",
        "large metadata is stored once per document",
        replace(f"{_HERE}/vectors/metadata_terms.py", "if self.size > COPIED_BYTES:", "if False:"),
        [
            "tests/services/indexing/vectors/test_metadata_terms.py::test_what_every_chunk_carries_is_bounded_whatever_the_metadata"
        ],
    ),
    Mutation(
        "mcp-fetch-scope",
        "reading a document by a tool takes the scope for documents",
        replace(f"{_MCP}/service.py", "scope=Scope.DOCUMENTS_READ,", "scope=Scope.SEARCH,"),
        ["tests/isolation/test_mcp.py::test_a_tool_tells_nobody_more_than_of_what_never_existed"],
    ),
    Mutation(
        "mcp-fetch-project",
        "a document is read only in the project that it belongs to",
        replace(
            f"{_HERE}/documents/stored_text.py",
            "_LIVE: Final = (_OF_DOCUMENT, Document.project_id == OF_PROJECT, Document.deleted.is_(False))",
            "_LIVE: Final = (_OF_DOCUMENT, Document.deleted.is_(False))",
        ),
        ["tests/isolation/test_mcp.py::test_a_document_is_not_found_under_another_project"],
    ),
    Mutation(
        "mcp-fetch-version",
        "an id of a replaced version leads to nothing",
        replace(f"{_MCP}/service.py", "if named.version not in (None, document.version):", "if False:"),
        [f"{_MCP_TESTS}::test_a_replaced_version_is_not_read_by_its_old_id"],
    ),
    Mutation(
        "mcp-list-client",
        "lists are asked for with the rights of the client",
        replace(
            f"{_MCP}/projects_client.py",
            'token = await self._delegation.token(caller.token, "projects")',
            "token = caller.token",
        ),
        [f"{_MCP_TESTS}::test_lists_are_asked_for_as_the_caller"],
    ),
    Mutation(
        "mcp-metadata",
        "large metadata is not shown to agents",
        replace(
            f"{_MCP}/service.py",
            "return metadata if len(orjson.dumps(metadata)) <= MOST_METADATA else None",
            "return metadata",
        ),
        [f"{_MCP_TESTS}::test_large_metadata_is_left_out"],
    ),
    Mutation(
        "mcp-part",
        "an agent reads a long document in parts",
        replace(f"{_HERE}/documents/stored_text.py", "if parts and end_offset - begin > most:", "if False:"),
        [f"{_MCP_TESTS}::test_a_long_document_is_read_in_parts"],
    ),
    Mutation(
        "mcp-message",
        "a message of an agent is bounded before it is parsed",
        replace(f"{_MCP}/router.py", "most_bytes=MOST_BYTES)", "most_bytes=2**40)"),
        [f"{_MCP_TESTS}::test_a_message_that_is_none_is_refused"],
    ),
    Mutation(
        "mcp-defect",
        "a defect of a tool says nothing about itself",
        replace(
            f"{_MCP}/door.py",
            "            except Exception as error:\n                raise _defect(tool.name, error) from error\n",
            "",
        ),
        [f"{_MCP_TESTS}::test_a_defect_says_nothing_about_itself"],
    ),
    Mutation(
        "mcp-trace",
        "a trace that a client names is not continued",
        replace(f"{_MCP}/door.py", "        server.middleware.clear()\n", ""),
        [f"{_MCP_TESTS}::test_a_trace_that_a_client_names_is_not_continued"],
    ),
)
