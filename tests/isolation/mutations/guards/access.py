"""Guards that say who is calling and what that allows: `shared.auth`, `access`, `http` and `operators`."""

from tests.isolation.mutations.model import Change, Mutation, replace

_TESTS = "tests/shared/test_auth.py"
_AUTH = "shared/auth.py"
_CLAIMS = f"{_TESTS}::test_a_wrong_claim_is_refused"

MUTATIONS = (
    Mutation(
        "token-audience",
        "a token counts for the service it was made for",
        replace(_AUTH, '                aud={"essential": True, "value": self._audience},\n', ""),
        [_CLAIMS],
    ),
    Mutation(
        "token-issuer",
        "identity alone issues tokens",
        replace(_AUTH, '                iss={"essential": True, "value": ISSUER},\n', ""),
        [_CLAIMS],
    ),
    Mutation("token-expiry", "a token ends", replace(_AUTH, "leeway=LEEWAY_SECONDS,", "leeway=10**10,"), [_CLAIMS]),
    Mutation(
        "token-expiry-required",
        "a token without an end does not count",
        replace(_AUTH, '                exp={"essential": True},\n', ""),
        [_CLAIMS],
    ),
    Mutation(
        "token-type",
        "a JWT made for something else is no internal token",
        replace(_AUTH, 'if decoded.header.get("typ") != TOKEN_TYPE or "crit"', 'if "crit"'),
        [f"{_TESTS}::test_a_token_of_another_type_is_refused"],
    ),
    Mutation(
        "token-critical",
        "a token that demands what nobody understands is refused",
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
        "an absurd token is refused unread",
        replace(_AUTH, "if len(token) > MAX_TOKEN_BYTES:", "if False:"),
        ["tests/shared/test_guards.py::test_an_absurd_token_is_refused_unread"],
    ),
    Mutation(
        "token-keys-flood",
        "invented key ids do not make a service ask identity each time",
        replace(_AUTH, "if now < self._next_fetch:", "if False:"),
        [f"{_TESTS}::test_invented_key_ids_do_not_flood_identity"],
    ),
    Mutation(
        "token-service-cache",
        "a service's token is kept for the tenant it speaks for",
        (
            Change(_AUTH, "self._cache.get((audience, tenant_id))", "self._cache.get((audience, uuid.UUID(int=0)))"),
            Change(_AUTH, "self._cache[audience, tenant_id] =", "self._cache[audience, uuid.UUID(int=0)] ="),
        ),
        [f"{_TESTS}::test_a_service_token_speaks_for_one_tenant_and_is_reused"],
    ),
    Mutation(
        "role-hidden",
        "a project that is none of the caller's does not exist for it",
        replace(_AUTH, "        if not scopes:\n            raise NotFound\n", ""),
        [f"{_TESTS}::test_a_role_and_a_credential_together_decide"],
    ),
    Mutation(
        "role-scope",
        "a role allows what belongs to it",
        replace(_AUTH, "        if scope not in scopes:\n            raise Forbidden\n", ""),
        [f"{_TESTS}::test_a_role_and_a_credential_together_decide"],
    ),
    Mutation(
        "role-limit",
        "a credential's scopes cut down what the role allows",
        replace(_AUTH, "return self.limit & PROJECT_ROLE_SCOPES[role]", "return PROJECT_ROLE_SCOPES[role]"),
        [f"{_TESTS}::test_a_role_and_a_credential_together_decide"],
    ),
    Mutation(
        "role-admin-limit",
        "a credential's scopes cut down what an administrator may do",
        replace(
            _AUTH,
            "        if self.is_tenant_admin:\n            return self.limit\n",
            "        if self.is_tenant_admin:\n            return ALL_SCOPES\n",
        ),
        [f"{_TESTS}::test_a_role_and_a_credential_together_decide"],
    ),
    Mutation(
        "role-admin",
        "members are no administrators",
        replace(_AUTH, 'return self.tenant_role in ("owner", "admin")', "return self.tenant_role is not None"),
        [f"{_TESTS}::test_tenant_wide_permission_is_for_its_admins"],
    ),
    Mutation(
        "role-tied",
        "a credential of one project opens no other",
        replace(_AUTH, "if self.project_id not in (None, project_id):", "if False:"),
        [f"{_TESTS}::test_a_credential_of_one_project_opens_no_other"],
    ),
    Mutation(
        "role-tied-tenant",
        "a credential of one project does nothing to the tenant",
        replace(
            _AUTH,
            "if not self.is_tenant_admin or scope not in self.limit or self.project_id is not None:",
            "if not self.is_tenant_admin or scope not in self.limit:",
        ),
        [f"{_TESTS}::test_a_credential_of_one_project_opens_no_other"],
    ),
    Mutation(
        "role-tenant-scope",
        "a credential's scopes hold for the tenant as a whole too",
        replace(
            _AUTH,
            "if not self.is_tenant_admin or scope not in self.limit or self.project_id is not None:",
            "if not self.is_tenant_admin or self.project_id is not None:",
        ),
        ["tests/shared/test_guards.py::test_the_scopes_of_a_credential_hold_for_the_tenant_too"],
    ),
    Mutation(
        "projection-role",
        "services that do not own a project ask for the caller's role in it",
        replace(
            "shared/access.py",
            "        principal.require_in_project(scope, project_id, role)",
            "        return",
        ),
        ["tests/services/indexing/jobs/test_router.py::test_roles_decide_who_may_read_and_who_may_redrive"],
    ),
    Mutation(
        "projection-user",
        "the role that counts is the caller's own",
        replace(
            "shared/access.py",
            "ProjectAccess.project_id == project_id, ProjectAccess.user_id == user_id)",
            "ProjectAccess.project_id == project_id)",
        ),
        ["tests/services/indexing/jobs/test_router.py::test_roles_decide_who_may_read_and_who_may_redrive"],
    ),
    Mutation(
        "projection-deleted",
        "a deleted project is open to nobody",
        replace("shared/access.py", "if project is None or not project.active:", "if project is None:"),
        ["tests/shared/test_guards.py::test_a_deleted_project_is_closed_in_every_projection"],
    ),
    Mutation(
        "projection-order",
        "late news of a role does not undo newer news",
        replace("shared/access.py", "where=ProjectAccess.sequence < statement.excluded.sequence,", "where=None,"),
        ["tests/shared/test_guards.py::test_late_news_gives_no_access_back"],
    ),
    Mutation(
        "projection-tenant",
        "a neighbour is asked about a project with a token of the session's tenant",
        replace(
            "shared/access.py",
            'self._tokens.token("projects", tenant_of(session))',
            'self._tokens.token("projects", uuid.UUID(int=0))',
        ),
        ["tests/shared/test_guards.py::test_the_owner_of_a_project_is_asked_in_the_name_of_the_tenant"],
    ),
    Mutation(
        "http-fields",
        "fields a client may not set are refused",
        replace("shared/http.py", 'ConfigDict(extra="forbid"', 'ConfigDict(extra="ignore"'),
        ["tests/shared/test_http.py::test_a_body_with_unknown_fields_is_refused"],
    ),
    Mutation(
        "http-request-id",
        "a request id of unsafe form is replaced",
        replace(
            "shared/http.py", "if not (self._trust_request_id and REQUEST_ID.match(request_id)):", "if not request_id:"
        ),
        ["tests/shared/test_http.py::test_an_unsafe_request_id_is_replaced"],
    ),
    Mutation(
        "http-secret-path",
        "the secret in an invitation's path stays out of the log",
        replace("shared/http.py", 'return _SECRET_IN_PATH.sub("***", path)', "return path"),
        ["tests/shared/test_http.py::test_the_secret_in_an_invitations_path_stays_out_of_the_log"],
    ),
    Mutation(
        "operator-kind",
        "no client's token opens what operators see",
        replace(
            "shared/operators.py",
            "if principal.kind is not PrincipalKind.SERVICE or principal.subject not in (OPERATOR, own_name):",
            "if False:",
        ),
        ["tests/shared/test_operators.py::test_no_client_gets_in_whatever_its_role"],
    ),
    Mutation(
        "operator-subject",
        "no other service reads a service's dead letters",
        replace(
            "shared/operators.py",
            "if principal.kind is not PrincipalKind.SERVICE or principal.subject not in (OPERATOR, own_name):",
            "if principal.kind is not PrincipalKind.SERVICE:",
        ),
        ["tests/shared/test_operators.py::test_another_service_or_another_audience_does_not_get_in"],
    ),
)
