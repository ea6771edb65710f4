"""Guards of the only public entry."""

from tests.isolation.mutations.model import Mutation, replace

_HERE = "services/gateway"
_TESTS = "tests/services/gateway"

_CONTINUATION = "tests/services/gateway/proxy/test_continuation.py"

MUTATIONS = (
    Mutation(
        "method-override",
        "a method in a header counts at resumable uploads alone",
        replace(f"{_HERE}/inbound/method_override.py", " or UPLOAD.fullmatch(request.path) is None:\n", ":\n"),
        [f"{_TESTS}/inbound/test_method_override.py"],
    ),
    Mutation(
        "continuation-service",
        "only the service that starts runs may have a response go on elsewhere",
        replace(
            "services/gateway/proxy/continuation.py",
            'allowed = (route.upstream, route.flow, request.method, len(named)) == ("indexing", Flow.EVENTS, "POST", 1)',
            "allowed = True",
        ),
        [f"{_CONTINUATION}::test_nobody_but_who_starts_runs_may_have_a_response_go_on"],
    ),
    Mutation(
        "continuation-project",
        "a response goes on in the project of its own request only",
        replace(
            "services/gateway/proxy/continuation.py",
            """    if not request.path.lower().startswith(f"{where['project']}/"):\n        raise BadUpstreamResponse\n""",
            "",
        ),
        [f"{_CONTINUATION}::test_only_the_events_of_a_run_in_the_same_project_may_follow"],
    ),
    Mutation(
        "continuation-header",
        "the header by which a response goes on never reaches a client",
        replace(
            "services/gateway/inbound/headers.py",
            '        CONTINUES.lower().encode("ascii"),\n',
            "",
        ),
        [f"{_CONTINUATION}::test_the_client_gets_one_response"],
    ),
    Mutation(
        "gateway-headers",
        "only the client headers on an allowlist are passed on",
        replace(
            f"{_HERE}/inbound/headers.py",
            "if (name in _INWARDS or _MCP_ARGUMENT.match(name))\n        and name not in nominated",
            "if name not in nominated",
        ),
        [f"{_TESTS}/inbound/test_headers.py::test_a_header_clients_may_not_set_is_dropped"],
    ),
    Mutation(
        "gateway-connection",
        "headers listed in Connection are not passed on",
        replace(
            f"{_HERE}/inbound/headers.py",
            "        and name not in nominated\n",
            "",
        ),
        [f"{_TESTS}/inbound/test_headers.py::test_what_connection_lists_is_for_this_hop_only"],
    ),
    Mutation(
        "gateway-cookies-in",
        "a session's cookie stays at the gateway",
        replace(
            f"{_HERE}/inbound/headers.py",
            "if cookies and (pairs := request.cookies()):",
            "if pairs := request.cookies():",
        ),
        [f"{_TESTS}/inbound/test_headers.py::test_the_client_s_credentials_stay_at_the_gateway"],
    ),
    Mutation(
        "gateway-cookies-out",
        "only the sign-in routes can set cookies",
        replace(f"{_HERE}/inbound/headers.py", 'if name == b"set-cookie" and not cookies:', "if False:"),
        [f"{_TESTS}/test_guards.py::test_no_service_sets_a_cookie_where_nobody_signs_in"],
    ),
    Mutation(
        "gateway-cors-upstream",
        "CORS headers of a service are dropped",
        replace(f"{_HERE}/inbound/headers.py", ' or name.startswith(b"access-control-"):', ":"),
        [f"{_TESTS}/inbound/test_headers.py::test_what_a_service_says_about_its_connection_and_itself_stays_inside"],
    ),
    Mutation(
        "gateway-fingerprint",
        "a token is cached by the whole credential",
        replace(
            f"{_HERE}/admission/credentials.py", r'f"{self.type}\0{self.value}"', r'f"{self.type}\0{self.value[:6]}"'
        ),
        ["tests/services/gateway/test_guards.py::test_credentials_that_differ_in_their_last_letter_share_nothing"],
    ),
    Mutation(
        "gateway-fingerprint-type",
        "the same value as another type of credential is another cache entry",
        replace(f"{_HERE}/admission/credentials.py", r'f"{self.type}\0{self.value}"', 'f"{self.value}"'),
        ["tests/services/gateway/test_guards.py::test_one_kind_of_credential_is_not_remembered_as_another"],
    ),
    Mutation(
        "gateway-two-cookies",
        "two session cookies are refused",
        replace(f"{_HERE}/admission/credentials.py", "if len(cookies) > 1:", "if False:"),
        [f"{_TESTS}/admission/test_credentials.py::test_two_session_cookies_are_refused"],
    ),
    Mutation(
        "gateway-expiry",
        "a cached token is dropped before it expires",
        replace(
            f"{_HERE}/admission/token_cache.py", "return self._clock() < entry.usable_until and (", "return True and ("
        ),
        [f"{_TESTS}/admission/test_token_cache.py::test_an_entry_lives_until_its_end"],
    ),
    Mutation(
        "gateway-lease",
        "cached tokens are not used without identity's lease",
        replace(f"{_HERE}/admission/token_cache.py", "(isinstance(entry, Refused) or self.current())", "True"),
        [f"{_TESTS}/admission/test_token_cache.py::test_an_entry_is_not_used_without_the_lease_of_identity"],
    ),
    Mutation(
        "gateway-generation",
        "an exchange that began before a revocation of its subject is not cached",
        replace(
            f"{_HERE}/admission/token_cache.py", "if isinstance(entry, Exchange) and self.outdated(entry):", "if False:"
        ),
        [
            f"{_TESTS}/admission/test_token_cache.py::test_an_answer_asked_for_before_a_revocation_of_its_own_is_not_kept"
        ],
    ),
    Mutation(
        "gateway-shared-question",
        "a request does not share an exchange that began before a revocation it must respect",
        replace(f"{_HERE}/admission/token_exchange.py", "if not self._cache.outdated(answer):", "if True:"),
        [f"{_TESTS}/admission/test_revocations.py::test_an_answer_outdated_on_its_way_is_asked_for_again"],
    ),
    Mutation(
        "gateway-renewed",
        "a credential is exchanged again when a request took long to reach a service",
        replace(
            f"{_HERE}/admission/token_exchange.py",
            "if self._cache.outdated(exchange) else exchange",
            "if False else exchange",
        ),
        [
            f"{_TESTS}/admission/test_revocations.py::test_what_a_credential_is_worth_is_asked_again_when_a_body_took_its_time"
        ],
    ),
    Mutation(
        "gateway-calls-revoked",
        "an event stream ends when its credential is revoked",
        replace(f"{_HERE}/admission/revocable_requests.py", "if concerns(call.principal):", "if False:"),
        [f"{_TESTS}/admission/test_revocations.py::test_a_stream_ends_with_its_credential"],
    ),
    Mutation(
        "gateway-calls-expired",
        "an event stream ends when its credential expires",
        replace(f"{_HERE}/admission/revocable_requests.py", "if exchange.credential_until is not None:", "if False:"),
        [f"{_TESTS}/admission/test_revocations.py::test_a_stream_ends_with_its_credential"],
    ),
    *(
        Mutation(
            f"gateway-revoked-{what.replace('_', '-')}",
            f"a revocation by {what} drops cached tokens",
            replace(f"{_HERE}/admission/revocations.py", f"self._cache.revoke(event.{what})", "pass"),
            [f"{_TESTS}/admission/test_revocations.py::test_a_revoked_credential_has_stopped_counting"],
        )
        for what in ("session_id", "api_key_id", "user_id", "tenant_id")
    ),
    Mutation(
        "gateway-revocation-unreadable",
        "an event that cannot be read is treated as a revocation",
        replace(
            f"{_HERE}/admission/revocations.py",
            "reason=str(error))\n            self.forget()\n",
            "reason=str(error))\n",
        ),
        [
            f"{_TESTS}/admission/test_revocations.py::test_other_events_leave_the_cache_alone_and_unreadable_ones_clear_it"
        ],
    ),
    Mutation(
        "gateway-csrf",
        "a browser's session changes nothing without its CSRF token",
        replace(f"{_HERE}/admission/gate.py", "            _require_csrf_token(request, exchange)\n", ""),
        [f"{_TESTS}/admission/test_browsers.py::test_a_session_changes_something_only_with_its_csrf_token"],
    ),
    Mutation(
        "gateway-csrf-none",
        "a session for which identity names no CSRF token changes nothing",
        replace(
            f"{_HERE}/admission/gate.py",
            'if not exchange.csrf_token or not hmac.compare_digest(sent.encode("latin-1"), exchange.csrf_token.encode("utf-8")):',
            'if exchange.csrf_token and not hmac.compare_digest(sent.encode("latin-1"), exchange.csrf_token.encode("utf-8")):',
        ),
        [f"{_TESTS}/admission/test_browsers.py::test_a_session_without_a_csrf_token_changes_nothing"],
    ),
    Mutation(
        "gateway-cross-site",
        "another site cannot act for a signed-in user",
        replace(f"{_HERE}/admission/gate.py", "if origin is None or origin.lower() not in self._origins:", "if False:"),
        [f"{_TESTS}/admission/test_browsers.py::test_another_site_may_not_act_for_the_user"],
    ),
    Mutation(
        "gateway-cross-site-sign-out",
        "another site cannot sign a user out",
        replace(
            f"{_HERE}/admission/gate.py",
            "            if credentials.session_cookies(request):\n                self._refuse_cross_site(request)\n",
            "",
        ),
        [f"{_TESTS}/admission/test_browsers.py::test_another_site_cannot_sign_the_user_out"],
    ),
    Mutation(
        "gateway-cors",
        "an origin that is not listed cannot read responses",
        replace(
            f"{_HERE}/response_headers.py", "if origin not in self._origins or origin is None:", "if origin is None:"
        ),
        [f"{_TESTS}/admission/test_browsers.py::test_listed_origins_may_read_answers_and_others_may_not"],
    ),
    Mutation(
        "gateway-preflight",
        "a preflight of an origin that is not listed is refused",
        replace(
            f"{_HERE}/response_headers.py",
            "if origin not in self._origins:\n            return problem",
            "if False:\n            return problem",
        ),
        [f"{_TESTS}/admission/test_browsers.py::test_a_preflight_is_answered_for_listed_origins_only"],
    ),
    Mutation(
        "gateway-limit-key",
        "limits are counted per subject",
        replace(
            f"{_HERE}/admission/rate_limits.py",
            'return f"gateway:limit:{limit.name}:{subject}"',
            'return f"gateway:limit:{limit.name}"',
        ),
        ["tests/services/gateway/test_guards.py::test_one_tenants_limit_is_not_anothers"],
    ),
    Mutation(
        "gateway-limit-tenant",
        "a tenant has one limit, however many keys it uses",
        replace(
            f"{_HERE}/admission/gate.py",
            "((self._user, principal.user_id), (self._tenant, principal.tenant_id))",
            "((self._user, principal.user_id),)",
        ),
        [f"{_TESTS}/admission/test_rate_limits.py::test_a_tenant_over_its_limit_is_429_whatever_key_it_uses"],
    ),
    Mutation(
        "gateway-limit-guessing",
        "invalid credentials are rate limited",
        replace(
            f"{_HERE}/admission/gate.py",
            "            await self._count_stranger(self._guesses, address, admission)\n",
            "",
        ),
        [f"{_TESTS}/admission/test_rate_limits.py::test_guessing_credentials_is_stopped_before_identity_is_asked"],
    ),
    Mutation(
        "gateway-limit-closed",
        "sign-in is refused while attempts cannot be counted",
        replace(
            f"{_HERE}/admission/rate_limits.py",
            "                if limit.fails_closed:\n                    raise\n",
            "",
        ),
        [f"{_TESTS}/admission/test_rate_limits.py::test_sign_in_fails_closed_without_redis_and_the_rest_goes_on"],
    ),
    Mutation(
        "gateway-forwarded",
        "only a trusted proxy can set the client's address",
        replace(
            f"{_HERE}/inbound/request_validation.py",
            'hops = [peer, *(hop.strip(OWS) for hop in reversed(forwarded.split(",")) if hop.strip(OWS))]',
            'hops = [*(hop.strip(OWS) for hop in reversed(forwarded.split(",")) if hop.strip(OWS)), peer]',
        ),
        [f"{_TESTS}/admission/test_rate_limits.py::test_only_a_trusted_proxy_says_who_the_client_is"],
    ),
    Mutation(
        "gateway-ipv6",
        "an IPv6 subscriber's addresses count as one client",
        replace(f"{_HERE}/inbound/request_validation.py", "IPv6Network((parsed, 64)", "IPv6Network((parsed, 128)"),
        [f"{_TESTS}/admission/test_rate_limits.py::test_one_ipv6_subscriber_is_one_client"],
    ),
    Mutation(
        "gateway-path-segments",
        "a path with `.`, `..` or empty segments is refused",
        replace(f"{_HERE}/inbound/request_validation.py", "    if _BAD_SEGMENT.search(path):", "    if False:"),
        [f"{_TESTS}/inbound/test_paths.py"],
    ),
    Mutation(
        "gateway-path-separators",
        "an encoded separator is refused",
        replace(
            f"{_HERE}/inbound/request_validation.py",
            "if not _PATH.match(raw_path) or _ENCODED_SEPARATORS.search(raw_path):",
            "if not _PATH.match(raw_path):",
        ),
        [f"{_TESTS}/test_guards.py::test_an_encoded_separator_is_refused"],
    ),
    Mutation(
        "gateway-framing",
        "a body with an ambiguous length is refused",
        replace(
            f"{_HERE}/inbound/request_validation.py",
            'if length is not None or coding.strip(b" \\t").lower() != b"chunked":',
            'if coding.strip(b" \\t").lower() != b"chunked":',
        ),
        [f"{_TESTS}/inbound/test_paths.py::test_ambiguous_requests_are_refused"],
    ),
    Mutation(
        "gateway-duplicates",
        "a header that must be unique is not repeated",
        replace(f"{_HERE}/inbound/request_validation.py", "            if name in seen:", "            if False:"),
        [f"{_TESTS}/inbound/test_headers.py::test_two_values_where_one_counts_are_refused"],
    ),
    Mutation(
        "gateway-header-size",
        "headers are bounded",
        replace(
            f"{_HERE}/inbound/request_validation.py",
            "if len(headers) > MAX_HEADERS or sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEADER_BYTES:",
            "if False:",
        ),
        [f"{_TESTS}/inbound/test_paths.py::test_sizes_of_the_request_line_and_headers_are_bounded"],
    ),
    Mutation(
        "gateway-pipelining",
        "a pipelined request is not accepted",
        replace(
            f"{_HERE}/inbound/http_protocol.py", "        if self._answer_under_way():\n            raise _Stop\n", ""
        ),
        [f"{_TESTS}/inbound/test_wire.py::test_a_pipelined_request_is_not_taken_and_the_first_is_answered"],
    ),
    Mutation(
        "gateway-trailers",
        "trailers do not become headers",
        replace(
            f"{_HERE}/inbound/http_protocol.py",
            "        if self._in_head:\n            super().on_header(name, value)\n",
            "        super().on_header(name, value)\n",
        ),
        [f"{_TESTS}/inbound/test_wire.py::test_trailers_do_not_become_headers"],
    ),
    *(
        Mutation(f"gateway-connection-{name}", guard, change, [f"{_TESTS}/inbound/test_connections.py::{test}"])
        for name, guard, change, test in (
            (
                "idle",
                "a connection without a complete request is closed, even if bytes trickle in",
                replace(f"{_HERE}/inbound/http_protocol.py", "        self._wait(IDLE_SECONDS)\n", "        pass\n"),
                "test_line_ends_do_not_keep_a_connection",
            ),
            (
                "drain",
                "the gateway does not wait for the rest of a body after the response",
                replace(
                    f"{_HERE}/inbound/http_protocol.py", "            self._wait(DRAIN_SECONDS)\n", "            pass\n"
                ),
                "test_the_rest_of_a_body_that_was_answered_does_not_keep_a_connection",
            ),
            (
                "framing",
                "chunk framing and trailers are limited",
                replace(
                    f"{_HERE}/inbound/http_protocol.py",
                    "if self._framing_bytes > MAX_FRAMING_BYTES + MAX_FRAMING_PER_BYTE * self._body_bytes:",
                    "if False:",
                ),
                "test_what_surrounds_a_body_is_bounded_by_the_body",
            ),
            (
                "linger",
                "a client that does not read is dropped",
                replace(
                    f"{_HERE}/inbound/http_protocol.py",
                    "self._timer = self._loop.call_later(LINGER_SECONDS, self._transport.abort)",
                    "pass",
                ),
                "test_a_client_that_does_not_read_keeps_nothing",
            ),
            (
                "share",
                "the number of idle connections per address is limited",
                replace(f"{_HERE}/inbound/connections.py", "if len(own) > self._most_waiting:", "if False:"),
                "test_an_address_has_so_many_waiting_connections_and_the_oldest_goes",
            ),
        )
    ),
    Mutation(
        "gateway-address-length",
        "the length of a URL is limited before it reaches the application",
        replace(f"{_HERE}/inbound/http_protocol.py", "if len(self.url) > MAX_TARGET_BYTES:", "if False:"),
        [f"{_TESTS}/inbound/test_wire.py::test_an_address_that_is_too_long_is_told_as_every_error_is"],
    ),
    Mutation(
        "gateway-cookie-form",
        "a cookie whose name only resembles ours is not accepted",
        replace(
            f"{_HERE}/inbound/request_validation.py",
            'parts = (part.strip(OWS) for header in self.all(b"cookie") for part in header.split(";"))',
            'parts = (part.replace("\\xa0", "").strip() for header in self.all(b"cookie") for part in header.split(";"))',
        ),
        [f"{_TESTS}/admission/test_credentials.py::test_a_cookie_whose_name_only_looks_like_ours_is_not_ours"],
    ),
    Mutation(
        "gateway-trace",
        "a client cannot set the trace id",
        replace(f"{_HERE}/main.py", "continue_trace=False, ", ""),
        [f"{_TESTS}/inbound/test_headers.py::test_a_client_does_not_say_which_trace_it_is"],
    ),
    Mutation(
        "gateway-log-share",
        "anonymous clients share the access log",
        replace(f"{_HERE}/access_log_limits.py", "if not (share.take(now) and self._all.take(now)):", "if False:"),
        [f"{_TESTS}/test_access_log.py"],
    ),
    *(
        Mutation(f"gateway-share-{name}", guard, change, [f"{_TESTS}/admission/test_concurrency_limits.py::{test}"])
        for name, guard, change, test in (
            (
                "bodies",
                "a body is received before the service is called",
                replace(f"{_HERE}/proxy/app.py", "if body.present and route.flow is not Flow.TRANSFER:", "if False:"),
                "test_bodies_that_do_not_come_take_no_connection_to_a_service",
            ),
            (
                "holder",
                "a tenant has a share of a service's capacity",
                replace(
                    f"{_HERE}/admission/concurrency_limits.py",
                    " and self.held_by(holder) < self._bounds.share * times",
                    "",
                ),
                "test_a_tenant_has_its_share_of_a_service_and_its_neighbour_gets_in",
            ),
            (
                "turns",
                "requests waiting for a service take turns by tenant",
                replace(
                    f"{_HERE}/admission/concurrency_limits.py", "            self._queues.move_to_end(holder)\n", ""
                ),
                "test_those_who_wait_take_turns",
            ),
            (
                "memory",
                "a tenant has a share of the memory for bodies",
                replace(
                    f"{_HERE}/admission/concurrency_limits.py",
                    "if self._held.get(holder, 0) + count > self._share:",
                    "if False:",
                ),
                "test_bodies_have_a_share_of_the_memory",
            ),
            (
                "strangers",
                "bodies without a credential leave places and memory to tenants",
                replace(
                    f"{_HERE}/admission/load_shedding.py",
                    "return (self.bodies, self.memory) if holder.verified else "
                    "(self.anonymous_bodies, self.anonymous_memory)",
                    "return self.bodies, self.memory",
                ),
                "test_bodies_of_strangers_leave_places_and_memory_to_tenants",
            ),
            (
                "exchanges",
                "token exchanges per address are limited",
                replace(
                    f"{_HERE}/admission/gate.py",
                    "asking = Bounds(EXCHANGES, EXCHANGES_PER_ADDRESS,",
                    "asking = Bounds(EXCHANGES, EXCHANGES,",
                ),
                "test_an_address_has_a_share_of_the_questions_to_identity",
            ),
            (
                "known",
                "invalid credentials from an address do not lock out credentials that were valid before",
                replace(f"{_HERE}/admission/gate.py", "known = fingerprint in self._known", "known = False"),
                "test_who_guesses_at_an_address_locks_out_no_credential_that_has_counted_before",
            ),
        )
    ),
    Mutation(
        "gateway-internal-routes",
        "internal endpoints are not reachable through the gateway",
        replace(
            f"{_HERE}/routes.py",
            '    _route(r"/auth/.+", "identity", access=Access.ANONYMOUS),\n',
            '    _route(r"/auth/.+", "identity", access=Access.ANONYMOUS),\n    _route(r"/(internal|metrics)(/.*)?", "identity"),\n',
        ),
        [f"{_TESTS}/test_operators_only.py"],
    ),
    *(
        Mutation(f"gateway-programs-{name}", guard, change, [f"{_TESTS}/admission/test_programs_only.py::{test}"])
        for name, guard, change, test in (
            (
                "session",
                "a browser's session is no credential of an agent",
                replace(
                    f"{_HERE}/admission/gate.py",
                    "credentials.find(request, sessions=route.sessions)",
                    "credentials.find(request)",
                ),
                "test_a_session_is_no_credential_of_an_agent",
            ),
            (
                "origin",
                "no page of another site reaches the door for agents",
                replace(f"{_HERE}/admission/gate.py", "        if not route.sessions:\n", "        if False:\n"),
                "test_a_page_of_another_site_is_refused_with_any_credential",
            ),
            (
                "headers",
                "only headers that the protocol for agents has are passed on",
                replace(f"{_HERE}/inbound/headers.py", 'rb"mcp-param-[a-z0-9-]+\\Z"', 'rb"mcp-?_?"'),
                "test_the_protocols_headers_pass_and_nothing_that_only_looks_like_them",
            ),
        )
    ),
)
