"""Guards of sign-in, sessions, keys, members and tokens."""

from tests.isolation.mutations.model import Mutation, replace

_HERE = "services/identity"
_TESTS = "tests/services/identity"
_SIGN_IN = f"{_TESTS}/test_sign_in.py"
_SESSIONS = f"{_TESTS}/test_sessions.py"
_KEYS = f"{_TESTS}/test_api_keys.py"
_GRANTS = f"{_TESTS}/test_grant_policy.py"
_QUOTAS = f"{_TESTS}/test_quotas.py"
_INVITATIONS = f"{_TESTS}/test_invitations.py"
_DELEGATED = f"{_TESTS}/test_delegated_tokens.py"
_ID_TOKEN = f"{_SIGN_IN}::test_an_id_token_for_somebody_or_something_else_is_refused"

MUTATIONS = (
    Mutation(
        "identity-cookie-secure",
        "cookies are sent over HTTPS only",
        replace(f"{_HERE}/sessions/cookies.py", "secure=True", "secure=False"),
        [f"{_SIGN_IN}::test_cookies_are_bound_to_this_host_and_out_of_reach"],
    ),
    Mutation(
        "identity-cookie-scripts",
        "scripts cannot read a session's cookie",
        replace(f"{_HERE}/sessions/cookies.py", "httponly=not readable", "httponly=False"),
        [f"{_SIGN_IN}::test_cookies_are_bound_to_this_host_and_out_of_reach"],
    ),
    Mutation(
        "identity-cookie-site",
        "cookies are not sent with cross-site requests",
        replace(f"{_HERE}/sessions/cookies.py", 'samesite="lax"', 'samesite="none"'),
        [f"{_SIGN_IN}::test_cookies_are_bound_to_this_host_and_out_of_reach"],
    ),
    Mutation(
        "identity-session-hash",
        "a session's secret is kept as a hash",
        replace(f"{_HERE}/credentials.py", "return hashlib.sha256(secret.encode()).digest()", "return secret.encode()"),
        [f"{_SESSIONS}::test_the_cookies_value_is_not_stored", f"{_KEYS}::test_a_key_is_shown_once_and_kept_as_a_hash"],
    ),
    Mutation(
        "identity-session-revoked",
        "an ended session is not valid",
        replace(f"{_HERE}/sessions/repository.py", "        BrowserSession.revoked_at.is_(None),\n", ""),
        [f"{_SESSIONS}::test_a_person_signs_out_elsewhere"],
    ),
    Mutation(
        "identity-session-expiry",
        "a session expires even when it is in use",
        replace(f"{_HERE}/sessions/repository.py", "        BrowserSession.expires_at > func.now(),\n", ""),
        [f"{_TESTS}/test_tokens.py::test_an_expired_session_allows_nothing_any_more"],
    ),
    Mutation(
        "identity-session-idle",
        "an idle session expires",
        replace(f"{_HERE}/sessions/repository.py", "        BrowserSession.last_seen_at > func.now() - idle,\n", ""),
        [f"{_SESSIONS}::test_an_idle_session_ends"],
    ),
    Mutation(
        "identity-session-owner",
        "a user can end only their own sessions",
        replace(
            f"{_HERE}/sessions/repository.py",
            "BrowserSession.id == session_id, BrowserSession.user_id == user_id, _counts(idle)",
            "BrowserSession.id == session_id, _counts(idle)",
        ),
        [f"{_SESSIONS}::test_nobody_ends_the_session_of_somebody_else"],
    ),
    Mutation(
        "identity-session-list",
        "a user sees only their own sessions",
        replace(
            f"{_HERE}/sessions/repository.py",
            '"""A user\'s sessions that count, oldest first; one more than `limit` if there is one."""\n'
            "    statement = (\n        select(BrowserSession)\n"
            "        .where(BrowserSession.user_id == user_id, _counts(idle))",
            '"""A user\'s sessions that count, oldest first; one more than `limit` if there is one."""\n'
            "    statement = (\n        select(BrowserSession)\n        .where(_counts(idle))",
        ),
        [f"{_TESTS}/test_guards.py::test_a_person_sees_nobody_elses_sessions"],
    ),
    Mutation(
        "identity-session-membership",
        "a session is valid in a tenant only while its user is a member",
        replace(f"{_HERE}/sessions/repository.py", "            Membership.role.is_not(None),\n", ""),
        [f"{_TESTS}/test_members.py::test_a_removed_member_sees_nothing_and_may_return"],
    ),
    Mutation(
        "identity-session-limit",
        "the number of a user's sessions is limited",
        replace(f"{_HERE}/sessions/service.py", "    for oldest in await", "    for oldest in [] and await"),
        [f"{_SESSIONS}::test_the_oldest_session_ends_beyond_the_limit"],
    ),
    Mutation(
        "identity-sign-out-csrf",
        "signing out needs the session's CSRF token",
        replace(
            f"{_HERE}/sessions/service.py",
            "if not hmac.compare_digest(csrf_given.encode(), expected.encode()):",
            "if False:",
        ),
        [f"{_SESSIONS}::test_signing_out_needs_the_csrf_token"],
    ),
    Mutation(
        "identity-csrf-session",
        "a CSRF token belongs to one session",
        replace(
            f"{_HERE}/credentials.py",
            "hmac.new(key, session_id.bytes, hashlib.sha256)",
            'hmac.new(key, b"", hashlib.sha256)',
        ),
        [f"{_SESSIONS}::test_the_csrf_token_of_another_session_is_worth_nothing"],
    ),
    Mutation(
        "identity-key-revoked",
        "a revoked key is not valid",
        replace(
            f"{_HERE}/api_keys/repository.py",
            "    .where(\n        ApiKey.revoked_at.is_(None),\n",
            "    .where(\n",
        ),
        [f"{_KEYS}::test_a_revoked_key_no_longer_counts_and_is_announced"],
    ),
    Mutation(
        "identity-key-expiry",
        "an expired key is not valid",
        replace(
            f"{_HERE}/api_keys/repository.py",
            "        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()),\n        Membership.role",
            "        Membership.role",
        ),
        [f"{_TESTS}/test_tokens.py::test_an_expired_key_allows_nothing_any_more"],
    ),
    Mutation(
        "identity-key-membership",
        "a key is valid only while its creator is a member",
        replace(f"{_HERE}/api_keys/repository.py", "        Membership.role.is_not(None),\n", ""),
        [f"{_KEYS}::test_a_key_without_a_membership_does_not_count"],
    ),
    Mutation(
        "identity-key-tenant",
        "a key ends with its tenant",
        replace(f"{_HERE}/api_keys/repository.py", "        Tenant.deleted_at.is_(None),\n", ""),
        [f"{_KEYS}::test_a_key_ends_with_its_tenant"],
    ),
    Mutation(
        "identity-key-scopes",
        "a key cannot have scopes that its creator's credential lacks",
        replace(f"{_HERE}/api_keys/service.py", "if not set(scopes) <= principal.limit:", "if False:"),
        [f"{_KEYS}::test_a_key_cannot_give_more_than_it_has"],
    ),
    Mutation(
        "identity-key-outliving",
        "a key does not outlive the key it was created with",
        replace(
            f"{_HERE}/api_keys/service.py",
            "maker.expires_at is not None and (expires_at is None or expires_at > maker.expires_at):",
            "False:",
        ),
        [f"{_KEYS}::test_a_key_does_not_outlive_the_key_that_made_it"],
    ),
    Mutation(
        "identity-key-leaving",
        "a user who leaves a tenant loses their keys there",
        replace(f"{_HERE}/members/service.py", "    await api_keys.revoke_all_of(session, user_id=user_id)\n", ""),
        [f"{_KEYS}::test_a_key_ends_when_its_maker_leaves_and_stays_ended"],
    ),
    Mutation(
        "identity-key-one-tenant",
        "a key sees only its own tenant, not its creator's others",
        replace(
            f"{_HERE}/tenants/service.py",
            "only = None if principal.kind is PrincipalKind.SESSION else principal.tenant_id",
            "only = None",
        ),
        [f"{_KEYS}::test_a_key_sees_only_its_own_tenant_of_its_maker"],
    ),
    Mutation(
        "identity-person",
        "an API key cannot do what needs a signed-in user",
        replace(
            f"{_HERE}/dependencies.py",
            "if principal.kind is not PrincipalKind.SESSION or principal.user_id is None or",
            "if principal.user_id is None or",
        ),
        [f"{_KEYS}::test_a_key_does_nothing_that_needs_a_person"],
    ),
    Mutation(
        "identity-tenants-of-user",
        "a user sees only the tenants they belong to",
        replace(
            f"{_HERE}/tenants/repository.py",
            "    statement = _of_user().where(Membership.user_id == user_id)\n",
            "    statement = _of_user()\n",
        ),
        [f"{_TESTS}/test_tenants.py::test_another_tenant_is_not_there"],
    ),
    Mutation(
        "identity-tenant-active",
        "only the active tenant can be changed",
        replace(f"{_HERE}/tenants/service.py", "    if tenant_id != principal.tenant_id:\n", "    if False:\n"),
        [f"{_TESTS}/test_tenants.py::test_an_own_tenant_that_is_not_active_is_only_looked_at"],
    ),
    Mutation(
        "identity-tenant-delete",
        "only owners can delete a tenant",
        replace(
            f"{_HERE}/tenants/service.py",
            '    if principal.tenant_role != "owner" or membership is None or membership.role != "owner":\n',
            "    if False:\n",
        ),
        [f"{_TESTS}/test_tenants.py::test_a_member_changes_nothing_and_an_admin_does_not_delete"],
    ),
    Mutation(
        "identity-owners-only",
        "only owners can add, change and remove owners",
        replace(
            f"{_HERE}/members/service.py",
            'if role == "owner" and (caller is None or caller.role != "owner"):',
            "if False:",
        ),
        [f"{_TESTS}/test_members.py::test_admins_do_not_touch_owners"],
    ),
    Mutation(
        "identity-last-owner",
        "a tenant never loses its last owner",
        replace(
            f"{_HERE}/members/service.py",
            'if membership.role == "owner" and await repository.count_owners(session) == 1:',
            "if False:",
        ),
        [f"{_TESTS}/test_members.py::test_the_last_owner_stays_owner"],
    ),
    Mutation(
        "identity-members-insight",
        "a key without the scope, or limited to a project, cannot list members",
        replace(
            f"{_HERE}/members/service.py",
            "    if Scope.MEMBERS_ADMIN not in principal.limit or principal.project_id is not None:\n        raise Forbidden\n",
            "    return\n",
        ),
        [f"{_TESTS}/test_members.py::test_a_key_without_the_scope_or_tied_to_a_project_sees_no_members"],
    ),
    Mutation(
        "identity-invitation-email",
        "an invitation is only for the verified address it names",
        replace(
            f"{_HERE}/invitations/service.py",
            "if not user.email_verified or user.email != invitation.email:",
            "if False:",
        ),
        [f"{_INVITATIONS}::test_the_token_is_worth_nothing_to_somebody_else"],
    ),
    Mutation(
        "identity-invitation-once",
        "an invitation can be accepted once, and not after it was revoked",
        replace(
            f"{_HERE}/invitations/repository.py",
            "_PENDING = (Invitation.accepted_at.is_(None), Invitation.revoked_at.is_(None))",
            "_PENDING = (Invitation.id.is_not(None),)",
        ),
        [f"{_INVITATIONS}::test_a_revoked_invitation_opens_nothing"],
    ),
    Mutation(
        "identity-exchange-gateway",
        "only the gateway exchanges credentials",
        replace(f"{_HERE}/tokens/service.py", 'if caller != "gateway":', "if False:"),
        [f"{_TESTS}/test_tokens.py::test_only_the_gateway_exchanges_credentials"],
    ),
    Mutation(
        "identity-service-secret",
        "a service authenticates with its secret",
        replace(
            f"{_HERE}/dependencies.py",
            "if not hmac.compare_digest(given.encode(), expected.encode()) or not expected or",
            "if not expected or",
        ),
        [f"{_TESTS}/test_tokens.py::test_a_service_must_prove_itself"],
    ),
    Mutation(
        "identity-service-unknown",
        "an unknown service name never authenticates",
        replace(f"{_HERE}/dependencies.py", " or not expected or", " or"),
        [f"{_TESTS}/test_tokens.py::test_a_service_must_prove_itself"],
    ),
    Mutation(
        "identity-operator-token",
        "a service cannot act as an operator",
        replace(f"{_HERE}/tokens/service.py", "    if caller != OPERATOR:\n", "    if False:\n"),
        [f"{_TESTS}/test_operator_tokens.py::test_no_service_passes_for_an_operator"],
    ),
    Mutation(
        "identity-operator-tenant",
        "an operator's token is for no tenant",
        replace(f"{_HERE}/tokens/service.py", "    if caller == OPERATOR:\n", "    if False:\n"),
        [f"{_TESTS}/test_operator_tokens.py::test_an_operator_speaks_for_no_tenant"],
    ),
    Mutation(
        "identity-stored-keys",
        "a stored signing key cannot be put under another's id",
        replace(f"{_HERE}/tokens/signing_keys.py", 'if opened.protected.get("kid") != row.kid:', "if False:"),
        [f"{_TESTS}/test_signing_keys.py::test_a_key_under_another_keys_id_is_refused"],
    ),
    Mutation(
        "identity-published-keys",
        "only the public half of signing keys is published",
        replace(
            f"{_HERE}/tokens/signing_keys.py",
            "dict(private.as_dict(private=False))",
            "dict(private.as_dict(private=True))",
        ),
        [f"{_TESTS}/test_tokens.py::test_the_published_keys_are_public"],
    ),
    Mutation(
        "sign-in-browser",
        "a sign-in must end in the browser that began it",
        replace(f"{_HERE}/sign_in/repository.py", "            LoginState.browser_hash == browser_hash,\n", ""),
        [f"{_SIGN_IN}::test_a_callback_in_another_browser_is_refused"],
    ),
    Mutation(
        "sign-in-provider",
        "a sign-in must end with the provider it began with",
        replace(f"{_HERE}/sign_in/repository.py", "            LoginState.provider == provider,\n", ""),
        ["tests/services/identity/test_guards.py::test_a_sign_in_does_not_end_with_another_provider"],
    ),
    Mutation(
        "sign-in-expiry",
        "a sign-in that took too long is refused",
        replace(f"{_HERE}/sign_in/repository.py", "            LoginState.expires_at > func.now(),\n", ""),
        [f"{_SIGN_IN}::test_a_sign_in_that_took_too_long_is_refused"],
    ),
    Mutation(
        "sign-in-once",
        "a callback can be used once",
        replace(
            f"{_HERE}/sign_in/repository.py",
            "        delete(LoginState)\n        .where(\n            LoginState.state_hash",
            "        __import__('sqlalchemy').select(LoginState)\n        .where(\n            LoginState.state_hash",
        ),
        [f"{_SIGN_IN}::test_a_callback_counts_once"],
    ),
    Mutation(
        "sign-in-return",
        "the browser is redirected only to a path on this site",
        replace(
            f"{_HERE}/sign_in/service.py",
            "if len(return_to) > _LONGEST_PATH or not _OWN_PATH.fullmatch(return_to):",
            "if len(return_to) > _LONGEST_PATH:",
        ),
        [f"{_SIGN_IN}::test_the_browser_is_sent_nowhere_else"],
    ),
    Mutation(
        "sign-in-pkce",
        "the code is bound to its sign-in by PKCE",
        replace(f"{_HERE}/sign_in/client.py", '            code_challenge_method="S256",\n', ""),
        [f"{_SIGN_IN}::test_the_provider_is_asked_with_pkce_state_nonce_and_the_exact_redirect_uri"],
    ),
    Mutation(
        "sign-in-issuer",
        "a response of another issuer is refused (mix-up)",
        replace(f"{_HERE}/sign_in/service.py", "    await client.check_issuer(callback.issuer)\n", ""),
        [f"{_SIGN_IN}::test_the_answer_of_another_issuer_is_refused"],
    ),
    Mutation(
        "sign-in-nonce",
        "an ID token must be for this sign-in",
        replace(f"{_HERE}/sign_in/id_tokens.py", '            nonce={"essential": True, "value": nonce},\n', ""),
        [f"{_SIGN_IN}::test_another_nonce_stored_is_refused"],
    ),
    Mutation(
        "sign-in-audience",
        "an ID token must be for this client",
        replace(f"{_HERE}/sign_in/id_tokens.py", '            aud={"essential": True, "value": client_id},\n', ""),
        [_ID_TOKEN],
    ),
    Mutation(
        "sign-in-token-issuer",
        "an ID token must be from this provider",
        replace(f"{_HERE}/sign_in/id_tokens.py", '            iss={"essential": True, "value": issuer},\n', ""),
        [_ID_TOKEN],
    ),
    Mutation(
        "sign-in-party",
        "an ID token names this client as its authorized party, if any",
        replace(f"{_HERE}/sign_in/id_tokens.py", "    if authorized not in (None, client_id):\n", "    if False:\n"),
        [_ID_TOKEN],
    ),
    Mutation(
        "sign-in-algorithms",
        "an ID token must be signed with a published key, not with a shared secret or not at all",
        replace(
            f"{_HERE}/sign_in/id_tokens.py",
            "accepted = [name for name in algorithms if name in ASYMMETRIC]",
            'accepted = [*algorithms, "HS256", "none"]',
        ),
        [f"{_SIGN_IN}::test_an_unsigned_token_and_one_signed_with_the_public_key_are_refused"],
    ),
    Mutation(
        "sign-in-linking",
        "an unverified address links no account",
        replace(
            f"{_HERE}/users/service.py",
            "    if email and identity.email_verified:\n",
            "    if email:\n",
        ),
        [f"{_SIGN_IN}::test_an_unverified_address_links_nothing"],
    ),
    Mutation(
        "sign-in-former-session",
        "signing in ends the session the browser had",
        replace(f"{_HERE}/sign_in/service.py", "        if former_session:\n", "        if False:\n"),
        [f"{_SIGN_IN}::test_signing_in_again_ends_the_browsers_former_session"],
    ),
    Mutation(
        "grants-scopes",
        "a key cannot grant a role with scopes it lacks",
        replace(
            f"{_HERE}/members/grant_policy.py",
            'if role != "member" and not principal.limit >= ALL_SCOPES:',
            "if False:",
        ),
        [f"{_GRANTS}::test_a_key_for_members_alone_makes_nobody_more_than_a_member"],
    ),
    Mutation(
        "grants-role-now",
        "granting checks the current membership, not the token",
        replace(f"{_HERE}/members/grant_policy.py", 'if _RANK[membership.role] < _RANK["admin"]:', "if False:"),
        [f"{_GRANTS}::test_what_a_grantor_is_counts_at_the_moment_of_the_grant"],
    ),
    Mutation(
        "grants-invitation-stands",
        "the sender of an invitation must still be allowed to grant the role when it is accepted",
        replace(
            f"{_HERE}/members/grant_policy.py",
            "if not await _reaches(session, user_id, role):\n        return",
            "if False:\n        return",
        ),
        [f"{_GRANTS}::test_the_sender_is_looked_at_when_the_invitation_is_accepted"],
    ),
    Mutation(
        "grants-invitation-key",
        "an invitation does not outlive the key it was sent with",
        replace(
            f"{_HERE}/members/grant_policy.py", "return key is not None and _gives(key.scopes, role)", "return True"
        ),
        [f"{_GRANTS}::test_an_invitation_does_not_outlive_the_key_it_was_sent_with"],
    ),
    Mutation(
        "grants-lineage",
        "a key stops working with the key it was created with",
        replace(f"{_HERE}/api_keys/service.py", "keys = await repository.made_by(session, ended)", "keys = []"),
        [f"{_GRANTS}::test_revoking_a_key_revokes_the_keys_made_with_it_and_theirs"],
    ),
    Mutation(
        "grants-project",
        "a key can be limited only to a project of its own tenant",
        replace(
            f"{_HERE}/api_keys/service.py",
            "if project_id is not None and not await projects.has(tenant_of(session), project_id):",
            "if False:",
        ),
        [f"{_GRANTS}::test_a_key_is_for_a_project_of_the_tenant"],
    ),
    Mutation(
        "quota-tenants",
        "the number of a user's tenants is limited, also for concurrent requests",
        replace(f"{_HERE}/tenants/service.py", "        await users.locked(session, owner_id)\n", ""),
        [f"{_QUOTAS}::test_a_user_has_so_many_tenants"],
    ),
    Mutation(
        "quota-keys",
        "the number of a tenant's keys is limited",
        replace(f"{_HERE}/api_keys/service.py", ">= settings.max_api_keys_per_tenant:", "< 0:"),
        [f"{_QUOTAS}::test_a_tenant_has_so_many_keys"],
    ),
    Mutation(
        "identity-delegation-scopes",
        "a service passes on only the scopes that the table gives it",
        replace(f"{_HERE}/tokens/service.py", "limit=principal.limit & scopes", "limit=principal.limit"),
        [f"{_DELEGATED}::test_what_is_not_in_the_table_is_not_passed_on"],
    ),
    Mutation(
        "identity-delegation-more",
        "a service passes on no more than its client has",
        replace(f"{_HERE}/tokens/service.py", "limit=principal.limit & scopes", "limit=scopes"),
        [f"{_DELEGATED}::test_a_service_calls_another_as_its_client"],
    ),
    Mutation(
        "identity-delegation-now",
        "a service passes on what its client's credential allows now",
        replace(
            f"{_HERE}/tokens/service.py",
            "principal = await _principal_now(session, shown.kind, shown.credential_id, settings)",
            "principal = shown",
        ),
        [f"{_DELEGATED}::test_a_credential_that_counts_no_longer_passes_nothing_on"],
    ),
    Mutation(
        "identity-delegation-tenant",
        "a service passes on rights in the tenant of the request only",
        replace(f"{_HERE}/tokens/service.py", "if principal.tenant_id != shown.tenant_id:", "if False:"),
        [f"{_DELEGATED}::test_a_session_that_went_to_another_tenant_passes_nothing_on"],
    ),
    Mutation(
        "identity-delegation-services",
        "a service cannot pass on another service's rights",
        replace(
            f"{_HERE}/tokens/service.py",
            "if shown.kind is PrincipalKind.SERVICE or shown.credential_id is None:",
            "if shown.credential_id is None and shown.kind is not PrincipalKind.SERVICE:",
        ),
        [f"{_DELEGATED}::test_what_a_service_may_is_not_passed_on"],
    ),
    Mutation(
        "identity-delegation-seconds",
        "what is passed on ends with the request",
        replace(f"{_HERE}/tokens/service.py", "timedelta(seconds=10)", "timedelta(days=1)"),
        [f"{_DELEGATED}::test_what_is_passed_on_is_for_the_request_at_hand"],
    ),
    Mutation(
        "identity-delegation-audience",
        "a service passes on only what was addressed to it",
        replace(f"{_HERE}/resources.py", "audience=service)", 'audience="projects")'),
        [f"{_DELEGATED}::test_only_a_token_for_the_service_itself_is_passed_on"],
    ),
)
