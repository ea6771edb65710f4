"""Guards that say who is calling and what that allows: `shared.auth`, `project_access`, `http` and `operator_api`."""

from tests.isolation.mutations.model import Change, Mutation, replace

_TESTS = "tests/shared/test_auth.py"
_AUTH = "shared/auth.py"
_CLAIMS = f"{_TESTS}::test_a_wrong_claim_is_refused"

MUTATIONS = (
    Mutation(
        "token-audience",
        "a token is valid only for the service it was issued for",
        replace(_AUTH, '                aud={"essential": True, "value": self._audience},\n', ""),
        [_CLAIMS],
    ),
    Mutation(
        "token-issuer",
        "only identity issues tokens",
        replace(_AUTH, '                iss={"essential": True, "value": ISSUER},\n', ""),
        [_CLAIMS],
    ),
    Mutation(
        "token-remembered",
        "a cached token expires as well",
        replace(_AUTH, "remembered is not None and time.time() < remembered[1]", "remembered is not None"),
        [f"{_TESTS}::test_a_token_that_was_accepted_once_is_refused_once_it_has_expired"],
    ),
    Mutation(
        "token-authority-fresh",
        "what a credential allows now is read after the caller asked",
        replace(
            "shared/authority_client.py",
            "self._next.get(asked)\n",
            "self._next.get(asked) or self._asking.get(asked)\n",
        ),
        ["tests/shared/test_authority_client.py::test_no_answer_is_older_than_its_question"],
    ),
    Mutation("token-expiry", "a token expires", replace(_AUTH, "leeway=LEEWAY_SECONDS,", "leeway=10**10,"), [_CLAIMS]),
    Mutation(
        "token-expiry-required",
        "a token without an expiry is not valid",
        (
            Change(_AUTH, '                exp={"essential": True},\n', ""),
            Change(_AUTH, 'float(decoded.claims["exp"])', 'float(decoded.claims.get("exp", "inf"))'),
        ),
        [_CLAIMS],
    ),
    Mutation(
        "token-type",
        "a JWT of another type is not an internal token",
        replace(_AUTH, 'if decoded.header.get("typ") != TOKEN_TYPE or "crit"', 'if "crit"'),
        [f"{_TESTS}::test_a_token_of_another_type_is_refused"],
    ),
    Mutation(
        "token-critical",
        "a token with unknown critical headers is refused",
        replace(_AUTH, ' or "crit" in decoded.header:', ":"),
        ["tests/shared/test_guards.py::test_a_signed_token_with_an_unknown_critical_header_is_refused"],
    ),
    Mutation(
        "token-signature",
        "the signature is verified",
        replace(
            _AUTH,
            "decoded = jwt.decode(token, keys, algorithms=[ALGORITHM])",
            "decoded = jwt.Token(*(orjson.loads(base64.urlsafe_b64decode(part + '=' * (-len(part) % 4))) "
            "for part in token.split('.')[:2]))",
        ),
        [
            f"{_TESTS}::test_a_token_signed_by_somebody_else_is_refused",
            f"{_TESTS}::test_an_unsigned_token_and_algorithm_confusion_are_refused",
        ],
    ),
    Mutation(
        "token-size",
        "an oversized token is refused unread",
        replace(_AUTH, "if len(token) > MAX_TOKEN_BYTES:", "if False:"),
        ["tests/shared/test_guards.py::test_an_absurd_token_is_refused_unread"],
    ),
    Mutation(
        "token-keys-flood",
        "unknown key ids do not cause a request to identity each time",
        replace(_AUTH, "if now < self._next_fetch:", "if False:"),
        [f"{_TESTS}::test_invented_key_ids_do_not_flood_identity"],
    ),
    Mutation(
        "token-service-cache",
        "a service's token is cached for its tenant only",
        (
            Change(_AUTH, "self._cache.get((audience, tenant_id))", "self._cache.get((audience, uuid.UUID(int=0)))"),
            Change(_AUTH, "self._cache[audience, tenant_id] =", "self._cache[audience, uuid.UUID(int=0)] ="),
        ),
        [f"{_TESTS}::test_a_service_token_speaks_for_one_tenant_and_is_reused"],
    ),
    Mutation(
        "role-hidden",
        "a project without access does not exist for the caller",
        replace(_AUTH, "        if not scopes:\n            raise NotFound\n", ""),
        [f"{_TESTS}::test_a_role_and_a_credential_together_decide"],
    ),
    Mutation(
        "role-scope",
        "a role allows only its own scopes",
        replace(_AUTH, "        if scope not in scopes:\n            raise Forbidden\n", ""),
        [f"{_TESTS}::test_a_role_and_a_credential_together_decide"],
    ),
    Mutation(
        "role-limit",
        "a credential's scopes limit what the role allows",
        replace(_AUTH, "return self.limit & PROJECT_ROLE_SCOPES[role]", "return PROJECT_ROLE_SCOPES[role]"),
        [f"{_TESTS}::test_a_role_and_a_credential_together_decide"],
    ),
    Mutation(
        "role-admin-limit",
        "a credential's scopes limit what an administrator may do",
        replace(
            _AUTH,
            "        if self.is_tenant_admin:\n            return self.limit\n",
            "        if self.is_tenant_admin:\n            return ALL_SCOPES\n",
        ),
        [f"{_TESTS}::test_a_role_and_a_credential_together_decide"],
    ),
    Mutation(
        "role-admin",
        "plain members are not administrators",
        replace(_AUTH, 'return self.tenant_role in ("owner", "admin")', "return self.tenant_role is not None"),
        [f"{_TESTS}::test_tenant_wide_permission_is_for_its_admins"],
    ),
    Mutation(
        "role-tied",
        "a credential limited to one project gives no access to others",
        replace(_AUTH, "if self.project_id not in (None, project_id):", "if False:"),
        [f"{_TESTS}::test_a_credential_of_one_project_opens_no_other"],
    ),
    Mutation(
        "role-tied-tenant",
        "a credential limited to one project cannot change the tenant",
        replace(
            _AUTH,
            "if not self.is_tenant_admin or scope not in self.limit or self.project_id is not None:",
            "if not self.is_tenant_admin or scope not in self.limit:",
        ),
        [f"{_TESTS}::test_a_credential_of_one_project_opens_no_other"],
    ),
    Mutation(
        "role-tenant-scope",
        "a credential's scopes also limit tenant-wide operations",
        replace(
            _AUTH,
            "if not self.is_tenant_admin or scope not in self.limit or self.project_id is not None:",
            "if not self.is_tenant_admin or self.project_id is not None:",
        ),
        ["tests/shared/test_guards.py::test_the_scopes_of_a_credential_hold_for_the_tenant_too"],
    ),
    Mutation(
        "projection-role",
        "services that do not own a project check the caller's role in it",
        replace(
            "shared/project_access.py",
            "        principal.require_in_project(scope, project_id, self.role)",
            "        return",
        ),
        ["tests/services/indexing/jobs/test_router.py::test_roles_decide_who_may_read_and_who_may_redrive"],
    ),
    Mutation(
        "projection-user",
        "the role that counts is the caller's own",
        replace(
            "shared/project_access.py",
            "        ProjectAccess.user_id == user_id,\n",
            "",
        ),
        ["tests/services/indexing/jobs/test_router.py::test_roles_decide_who_may_read_and_who_may_redrive"],
    ),
    Mutation(
        "projection-deleted",
        "nobody has access to a deleted project",
        replace("shared/project_access.py", "        if not self.active:\n", "        if self.active is None:\n"),
        ["tests/shared/test_guards.py::test_a_deleted_project_is_closed_in_every_projection"],
    ),
    Mutation(
        "projection-order",
        "a late event about a role does not overwrite a newer one",
        replace("shared/project_access.py", "WHERE project_access.sequence < excluded.sequence", ""),
        ["tests/shared/test_guards.py::test_late_news_gives_no_access_back"],
    ),
    Mutation(
        "projection-membership",
        "a role of an earlier membership of the tenant does not count",
        replace("shared/project_access.py", "        ProjectAccess.membership_number == membership_number,\n", ""),
        ["tests/shared/test_guards.py::test_a_role_of_an_earlier_membership_does_not_count"],
    ),
    Mutation(
        "projection-tenant",
        "the projects service is asked about a project with a token of the session's tenant",
        replace(
            "shared/project_access.py",
            'self._tokens.token("projects", tenant_id)',
            'self._tokens.token("projects", uuid.UUID(int=0))',
        ),
        ["tests/shared/test_guards.py::test_the_owner_of_a_project_is_asked_in_the_name_of_the_tenant"],
    ),
    Mutation(
        "projection-asking",
        "requests about unknown projects take turns by tenant",
        replace("shared/project_access.py", "each=ASKED_EACH, ", ""),
        [
            "tests/shared/test_project_access.py::"
            "test_who_asks_about_unknown_projects_holds_no_connection_and_leaves_turns_to_others"
        ],
    ),
    Mutation(
        "http-fields",
        "fields a client may not set are refused",
        replace("shared/request_bodies.py", 'ConfigDict(extra="forbid"', 'ConfigDict(extra="ignore"'),
        ["tests/shared/test_http.py::test_a_body_with_unknown_fields_is_refused"],
    ),
    Mutation(
        "http-request-id",
        "an unsafe request id is replaced",
        replace(
            "shared/request_context.py",
            "if not (self._trust_request_id and REQUEST_ID.match(request_id)):",
            "if not request_id:",
        ),
        ["tests/shared/test_http.py::test_an_unsafe_request_id_is_replaced"],
    ),
    Mutation(
        "http-secret-path",
        "the secret in an invitation's path stays out of the log",
        replace("shared/request_context.py", 'path = _SECRET_IN_PATH.sub("***", path)', "pass"),
        ["tests/shared/test_http.py::test_the_secret_in_an_invitations_path_stays_out_of_the_log"],
    ),
    Mutation(
        "service-door",
        "services can call internal routes only, and clients cannot call them",
        replace(
            "shared/current_principal.py",
            "if (principal.kind is PrincipalKind.SERVICE) is not path.startswith(INTERNAL_PATHS):",
            "if False:",
        ),
        ["tests/shared/test_http.py::test_services_and_clients_have_routes_of_their_own"],
    ),
    Mutation(
        "service-operation",
        "a service can do only what its token names",
        replace(
            "shared/auth.py",
            "if self.kind is not PrincipalKind.SERVICE or operation not in self.operations:",
            "if self.kind is not PrincipalKind.SERVICE:",
        ),
        ["tests/shared/test_operator_api.py::test_another_operation_or_another_audience_does_not_get_in"],
    ),
    Mutation(
        "service-acts-for-nobody",
        "a service's token carries no user, role or project",
        replace("shared/auth.py", "if not _OF_CLIENTS.isdisjoint(claims):", "if False:"),
        ["tests/shared/test_auth.py::test_a_service_that_says_it_has_a_role_is_refused"],
    ),
    Mutation(
        "service-table",
        "identity issues no token to a service without permissions for the audience",
        replace("services/identity/tokens/service.py", "    if not operations:\n", "    if False:\n"),
        ["tests/services/identity/test_tokens.py::test_a_service_gets_no_token_for_what_it_has_nothing_to_ask"],
    ),
    Mutation(
        "service-installation-wide",
        "a token for one tenant gives no installation-wide rights",
        replace(
            "shared/service_permissions.py",
            "allowed & INSTALLATION_WIDE if installation_wide else allowed - INSTALLATION_WIDE",
            "allowed",
        ),
        [
            "tests/services/identity/test_tokens.py::test_a_service_gets_no_token_for_what_it_has_nothing_to_ask",
            "tests/shared/test_auth.py::test_what_is_about_the_installation_needs_a_token_of_no_tenant",
        ],
    ),
    Mutation(
        "request-query",
        "query parameters unknown to the route are refused",
        replace("shared/http_semantics.py", "        if name not in known:", "        if False:"),
        ["tests/shared/test_http.py::test_unknown_and_repeated_query_parameters_are_refused"],
    ),
    Mutation(
        "request-json-size",
        "the size of a JSON body is limited",
        replace(
            "shared/json_bodies.py",
            "        if size > most_bytes:\n            raise _too_large(most_bytes)\n        if chunk:",
            "        if chunk:",
        ),
        ["tests/shared/test_http.py::test_a_body_is_bounded_before_anything_is_made_of_it"],
    ),
    Mutation(
        "request-json-values",
        "the number of values in a JSON body is limited",
        replace("shared/json_bodies.py", "if values > MAX_VALUES:", "if False:"),
        ["tests/shared/test_http.py::test_a_body_is_bounded_before_anything_is_made_of_it"],
    ),
    Mutation(
        "request-json-unparsed",
        "a body that its route parses itself is limited first",
        replace("shared/deferred_parsing.py", "        json_bodies.require_bounds(self._body)\n", ""),
        ["tests/shared/test_deferred_parsing.py::test_the_answer_is_the_same"],
    ),
    Mutation(
        "request-unparsed-loop",
        "the event loop is free between parsing two bodies",
        replace("shared/deferred_parsing.py", "            await asyncio.sleep(0)\n", "            pass\n"),
        ["tests/shared/test_deferred_parsing.py::test_others_have_the_event_loop_before_the_next_one_is_parsed"],
    ),
    Mutation(
        "request-errors",
        "a response lists a few of the errors, and the number of all",
        replace("shared/problems.py", "if self.count <= MAX_SHOWN_ERRORS:", "if True:"),
        ["tests/shared/test_http.py::test_a_client_reads_only_so_much_about_its_errors"],
    ),
    Mutation(
        "request-unknown-fields",
        "many unknown fields are one error",
        replace("shared/request_bodies.py", "if isinstance(value, dict) and len(value) > most:", "if False:"),
        ["tests/shared/test_request_schemas.py::test_many_unknown_fields_are_one_error"],
    ),
    Mutation(
        "request-expansion",
        "the expansion of a compressed body is limited",
        replace(
            "shared/content_coding.py", "if self._made > max(FREE_BYTES, MAX_RATIO * self._received):", "if False:"
        ),
        ["tests/shared/test_content_coding.py::test_a_bomb_ends_early"],
    ),
)
