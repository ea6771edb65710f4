"""Guards of indexing: the vector store, search, jobs."""

from tests.isolation.mutations.model import Mutation, replace

_HERE = "services/indexing"
_VECTORS = "tests/services/indexing/vectors/test_isolation.py"
_SEARCHES = "tests/isolation/test_vectors.py::test_ten_thousand_hostile_searches_find_nothing_foreign"
_STORE = f"{_HERE}/vectors/store.py"
_QDRANT = "tests/services/indexing/vectors/test_qdrant_engine.py"
_SCOPE = 'self._scope = (equals("tenant_id", self._tenant_id), equals("project_id", self._project_id))'

MUTATIONS = (
    Mutation(
        "vectors-tenant",
        "every call of the vector store is cut down to one tenant",
        replace(_STORE, _SCOPE, 'self._scope = (equals("project_id", self._project_id),)'),
        [_SEARCHES],
    ),
    Mutation(
        "vectors-project",
        "every call of the vector store is cut down to one project",
        replace(_STORE, _SCOPE, 'self._scope = (equals("tenant_id", self._tenant_id),)'),
        [_SEARCHES],
    ),
    Mutation(
        "vectors-nesting",
        "a user's filter is nested beneath the tenant's",
        replace(
            f"{_HERE}/vectors/conditions.py",
            "return every(*scope, *(every(condition) for condition in conditions))",
            "return some(every(*scope), *conditions)",
        ),
        [_SEARCHES],
    ),
    Mutation(
        "vectors-second-look",
        "what the engine returns is checked once more",
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
        "a Qdrant server takes term statistics from the project alone",
        replace(
            f"{_HERE}/vectors/qdrant.py",
            'statistics = models.SearchParams(idf=models.IdfCorpusParams(corpus=filter_of(search["corpus"])))',
            "statistics = None",
        ),
        [f"{_VECTORS}::test_scores_do_not_depend_on_what_other_projects_hold"],
    ),
    Mutation(
        "vectors-qdrant-version",
        "a Qdrant server that does not know statistics of a part is not used",
        replace(
            f"{_HERE}/vectors/qdrant_collection.py",
            "if parts is None or tuple(map(int, parts.groups())) < _OLDEST:",
            "if False:",
        ),
        [f"{_QDRANT}::test_a_server_that_does_not_know_scoped_statistics_is_not_used"],
    ),
    Mutation(
        "vectors-qdrant-filter",
        "a search on a Qdrant server carries its filter",
        replace(
            f"{_HERE}/vectors/qdrant.py", "        filter=where,\n        params=params,", "        params=params,"
        ),
        [_SEARCHES],
    ),
    Mutation(
        "vectors-qdrant-grammar",
        "a condition that a Qdrant server would not be told of is an error",
        replace(
            f"{_HERE}/vectors/qdrant_filters.py",
            'case {"must": [*conditions], **rest} if not rest:',
            'case {"must": [*conditions], **rest}:',
        ),
        [f"{_QDRANT}::test_a_condition_the_engine_does_not_know_is_an_error_and_never_ignored"],
    ),
    Mutation(
        "vectors-socket",
        "the socket of a shared engine is for the service's own account",
        replace(f"{_HERE}/vectors/serving.py", "fresh.chmod(0o600)", "fresh.chmod(0o666)"),
        [
            "tests/services/indexing/vectors/test_shared_engine.py::test_the_socket_is_for_its_owner_alone_and_goes_with_it"
        ],
    ),
    Mutation(
        "vectors-point-tenant",
        "a point's id contains its tenant, so that nobody overwrites another's",
        replace(
            f"{_HERE}/vectors/points.py",
            'f"{tenant_id}:{project_id}:{point.document_id}',
            'f"{project_id}:{point.document_id}',
        ),
        ["tests/isolation/test_vectors.py::test_the_same_ids_under_two_tenants_are_two_points"],
    ),
    Mutation(
        "vectors-point-project",
        "a point's id contains its project",
        replace(
            f"{_HERE}/vectors/points.py",
            'f"{tenant_id}:{project_id}:{point.document_id}',
            'f"{tenant_id}:{point.document_id}',
        ),
        [f"{_VECTORS}::test_the_same_document_id_in_two_projects_is_two_documents"],
    ),
    Mutation(
        "vectors-erasure",
        "erasing a tenant erases that tenant",
        replace(_STORE, 'self._scope = every(equals("tenant_id", _id(tenant_id)))', "self._scope = every()"),
        ["tests/services/indexing/documents/test_cleanup.py::test_a_deleted_tenant_is_removed_whole_and_no_other"],
    ),
    Mutation(
        "vectors-missing-id",
        "without a tenant there is no store",
        replace(_STORE, "if not isinstance(value, UUID) or value.int == 0:", "if False:"),
        ["tests/isolation/test_vectors.py::test_without_a_tenant_there_is_no_store"],
    ),
    Mutation(
        "search-access",
        "a search asks for the caller's role in the project",
        replace(
            f"{_HERE}/search/service.py",
            "        await engine.directory.require(session, principal, project_id=project_id, scope=Scope.SEARCH)\n",
            "        pass\n",
        ),
        ["tests/services/indexing/search/test_search.py::test_a_viewer_may_search_and_a_stranger_may_not_know"],
    ),
    Mutation(
        "search-live",
        "search shows the live version alone",
        replace(
            f"{_HERE}/documents/repository.py",
            "            Document.live_version == Chunk.version,\n            Document.deleted.is_(False),\n        )\n    )\n    return [Passage",
            "            Document.deleted.is_(False),\n        )\n    )\n    return [Passage",
        ),
        ["tests/services/indexing/test_guards.py::test_a_version_that_is_not_live_is_not_shown"],
    ),
    Mutation(
        "search-project",
        "passages come from the project that was asked",
        replace(
            f"{_HERE}/documents/repository.py",
            "            Document.project_id == project_id,\n            Document.live_version",
            "            Document.live_version",
        ),
        ["tests/services/indexing/test_guards.py::test_a_hit_of_another_project_is_not_shown"],
    ),
    Mutation(
        "search-cursor",
        "a cursor belongs to one query of one project",
        replace(f"{_HERE}/search/cursors.py", "if made_for != query or type(offset)", "if type(offset)"),
        ["tests/services/indexing/search/test_search.py::test_a_cursor_of_another_query_is_refused"],
    ),
    Mutation(
        "search-cursor-project",
        "a cursor of another project is refused",
        replace(f"{_HERE}/search/service.py", "        str(project_id), request.query,", "        request.query,"),
        ["tests/services/indexing/test_guards.py::test_a_cursor_of_another_project_is_refused"],
    ),
    Mutation(
        "jobs-project",
        "a job is found in its own project alone",
        replace(
            f"{_HERE}/jobs/repository.py",
            "select(Job).where(Job.id == job_id, Job.project_id == project_id)",
            "select(Job).where(Job.id == job_id)",
        ),
        ["tests/services/indexing/jobs/test_router.py::test_a_job_of_another_project_cannot_be_redriven"],
    ),
    Mutation(
        "jobs-list",
        "a list of jobs is one project's",
        replace(f"{_HERE}/jobs/repository.py", ".where(Job.project_id == project_id, _VISIBLE)", ".where(_VISIBLE)"),
        ["tests/services/indexing/test_guards.py::test_jobs_are_listed_within_a_project"],
    ),
    Mutation(
        "jobs-running",
        "progress is one project's",
        replace(
            f"{_HERE}/jobs/repository.py",
            ".where(Job.project_id == project_id, Job.state.in_(RUNNING), _VISIBLE)",
            ".where(Job.state.in_(RUNNING), _VISIBLE)",
        ),
        ["tests/services/indexing/test_guards.py::test_jobs_are_listed_within_a_project"],
    ),
    Mutation(
        "jobs-redrive-scope",
        "redriving takes the right to write",
        replace(f"{_HERE}/jobs/views.py", "scope=Scope.DOCUMENTS_WRITE", "scope=Scope.DOCUMENTS_READ"),
        ["tests/services/indexing/jobs/test_router.py::test_roles_decide_who_may_read_and_who_may_redrive"],
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
            ".where(Job.id == lease.job_id, Job.fencing_token == lease.token, Job.state.in_(RUNNING))",
            ".where(Job.id == lease.job_id, Job.state.in_(RUNNING))",
        ),
        ["tests/services/indexing/jobs/test_leases.py::test_a_thawed_worker_cannot_write"],
    ),
    Mutation(
        "indexing-erasure-tenant",
        "the deletion of a tenant is believed of the tenant it came from",
        replace(
            f"{_HERE}/documents/service.py",
            '    if session.info["tenant_id"] != tenant_id:\n',
            "    if False:\n",
        ),
        ["tests/services/indexing/jobs/test_requests.py::test_an_event_that_names_another_tenant_is_refused"],
    ),
)
