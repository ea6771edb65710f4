"""Guards of the only public entry."""

from tests.isolation.mutations.model import Mutation, replace

_HERE = "services/gateway"
_TESTS = "tests/services/gateway"

MUTATIONS = (
    Mutation(
        "gateway-headers",
        "of a client's headers those on a list pass, and no other",
        replace(f"{_HERE}/headers.py", "if name in _INWARDS and name not in nominated", "if name not in nominated"),
        [f"{_TESTS}/test_headers.py::test_a_header_clients_may_not_set_is_dropped"],
    ),
    Mutation(
        "gateway-connection",
        "what Connection lists is for this hop only",
        replace(f"{_HERE}/headers.py", "if name in _INWARDS and name not in nominated and", "if name in _INWARDS and"),
        [f"{_TESTS}/test_headers.py::test_what_connection_lists_is_for_this_hop_only"],
    ),
    Mutation(
        "gateway-cookies-in",
        "a session's cookie stays at the gateway",
        replace(
            f"{_HERE}/headers.py",
            'if cookies and (values := request.all(b"cookie")):',
            'if values := request.all(b"cookie"):',
        ),
        [f"{_TESTS}/test_headers.py::test_the_client_s_credentials_stay_at_the_gateway"],
    ),
    Mutation(
        "gateway-cookies-out",
        "services set cookies only where people sign in",
        replace(f"{_HERE}/headers.py", 'if name == b"set-cookie" and not cookies:', "if False:"),
        [f"{_TESTS}/test_guards.py::test_no_service_sets_a_cookie_where_nobody_signs_in"],
    ),
    Mutation(
        "gateway-cors-upstream",
        "a service's own word on origins is dropped",
        replace(f"{_HERE}/headers.py", ' or name.startswith(b"access-control-"):', ":"),
        [f"{_TESTS}/test_headers.py::test_what_a_service_says_about_its_connection_and_itself_stays_inside"],
    ),
    Mutation(
        "gateway-fingerprint",
        "a token is remembered for the whole credential it was given for",
        replace(f"{_HERE}/credentials.py", r'f"{self.type}\0{self.value}"', r'f"{self.type}\0{self.value[:6]}"'),
        ["tests/services/gateway/test_guards.py::test_credentials_that_differ_in_their_last_letter_share_nothing"],
    ),
    Mutation(
        "gateway-fingerprint-type",
        "the same value as another kind of credential is another credential",
        replace(f"{_HERE}/credentials.py", r'f"{self.type}\0{self.value}"', 'f"{self.value}"'),
        ["tests/services/gateway/test_guards.py::test_one_kind_of_credential_is_not_remembered_as_another"],
    ),
    Mutation(
        "gateway-two-cookies",
        "two session cookies are refused",
        replace(f"{_HERE}/credentials.py", "if len(sessions) > 1:", "if False:"),
        [f"{_TESTS}/test_credentials.py::test_two_session_cookies_are_refused"],
    ),
    Mutation(
        "gateway-expiry",
        "a remembered token is forgotten before it ends",
        replace(f"{_HERE}/token_cache.py", "if now >= entry.usable_until:", "if False:"),
        [f"{_TESTS}/test_token_cache.py::test_an_entry_lives_until_its_end_while_revocations_are_heard"],
    ),
    Mutation(
        "gateway-stale",
        "nothing remembered counts while revocations are not heard",
        replace(
            f"{_HERE}/token_cache.py",
            "return isinstance(entry, Refused) or max(entry.fetched_at, self._heard_at) + STALE_SECONDS > now",
            "return True",
        ),
        [f"{_TESTS}/test_token_cache.py::test_an_entry_is_not_used_when_revocations_have_not_been_heard_for_long"],
    ),
    Mutation(
        "gateway-generation",
        "an answer asked for before a revocation is not kept",
        replace(f"{_HERE}/token_cache.py", "if generation != self.generation:", "if False:"),
        [f"{_TESTS}/test_token_cache.py::test_an_answer_asked_for_before_a_revocation_is_not_kept"],
    ),
    *(
        Mutation(
            f"gateway-revoked-{what.replace('_', '-')}",
            f"a revocation ({what}) drops what was remembered",
            replace(f"{_HERE}/revocations.py", f"cache.revoke(event.{what})", "pass"),
            [f"{_TESTS}/test_revocations.py::test_a_revoked_credential_stops_counting"],
        )
        for what in ("session_id", "api_key_id", "user_id", "tenant_id")
    ),
    Mutation(
        "gateway-revocation-unreadable",
        "an event that cannot be read may be a revocation",
        replace(
            f"{_HERE}/revocations.py",
            "reason=str(error))\n        cache.clear()\n",
            "reason=str(error))\n",
        ),
        [f"{_TESTS}/test_revocations.py::test_other_events_leave_the_cache_alone_and_unreadable_ones_clear_it"],
    ),
    Mutation(
        "gateway-csrf",
        "a browser's session changes nothing without its CSRF token",
        replace(f"{_HERE}/admission.py", "            _require_csrf_token(request, exchange)\n", ""),
        [f"{_TESTS}/test_browsers.py::test_a_session_changes_something_only_with_its_csrf_token"],
    ),
    Mutation(
        "gateway-csrf-none",
        "a session for which identity names no CSRF token changes nothing",
        replace(
            f"{_HERE}/admission.py",
            'if not exchange.csrf_token or not hmac.compare_digest(sent.encode("latin-1"), exchange.csrf_token.encode("utf-8")):',
            'if exchange.csrf_token and not hmac.compare_digest(sent.encode("latin-1"), exchange.csrf_token.encode("utf-8")):',
        ),
        [f"{_TESTS}/test_browsers.py::test_a_session_without_a_csrf_token_changes_nothing"],
    ),
    Mutation(
        "gateway-cross-site",
        "another site does not act for a signed-in user",
        replace(f"{_HERE}/admission.py", "if origin is None or origin.lower() not in self._origins:", "if False:"),
        [f"{_TESTS}/test_browsers.py::test_another_site_may_not_act_for_the_user"],
    ),
    Mutation(
        "gateway-cross-site-sign-out",
        "another site does not sign a user out",
        replace(
            f"{_HERE}/admission.py",
            "            if credentials.session_cookies(request):\n                self._refuse_cross_site(request)\n",
            "",
        ),
        [f"{_TESTS}/test_browsers.py::test_another_site_cannot_sign_the_user_out"],
    ),
    Mutation(
        "gateway-cors",
        "an origin that is not listed may not read answers",
        replace(f"{_HERE}/answers.py", "if origin not in self._origins or origin is None:", "if origin is None:"),
        [f"{_TESTS}/test_browsers.py::test_listed_origins_may_read_answers_and_others_may_not"],
    ),
    Mutation(
        "gateway-preflight",
        "a preflight of an origin that is not listed is refused",
        replace(
            f"{_HERE}/answers.py",
            "if origin not in self._origins:\n            return problem",
            "if False:\n            return problem",
        ),
        [f"{_TESTS}/test_browsers.py::test_a_preflight_is_answered_for_listed_origins_only"],
    ),
    Mutation(
        "gateway-limit-key",
        "a limit is counted for each subject by itself",
        replace(
            f"{_HERE}/limits.py",
            'return f"gateway:limit:{limit.name}:{subject}"',
            'return f"gateway:limit:{limit.name}"',
        ),
        ["tests/services/gateway/test_guards.py::test_one_tenants_limit_is_not_anothers"],
    ),
    Mutation(
        "gateway-limit-tenant",
        "a tenant has one limit, however many keys it uses",
        replace(
            f"{_HERE}/admission.py",
            "((self._user, principal.user_id), (self._tenant, principal.tenant_id))",
            "((self._user, principal.user_id),)",
        ),
        [f"{_TESTS}/test_limits.py::test_a_tenant_over_its_limit_is_429_whatever_key_it_uses"],
    ),
    Mutation(
        "gateway-limit-guessing",
        "guessing credentials counts",
        replace(
            f"{_HERE}/admission.py",
            "        except Unauthenticated:\n            await self._count_stranger(address, admission)\n            raise\n",
            "        except Unauthenticated:\n            raise\n",
        ),
        [f"{_TESTS}/test_limits.py::test_guessing_credentials_is_stopped_before_identity_is_asked"],
    ),
    Mutation(
        "gateway-limit-closed",
        "sign-in is refused while attempts cannot be counted",
        replace(f"{_HERE}/limits.py", "                if limit.fails_closed:\n                    raise\n", ""),
        [f"{_TESTS}/test_limits.py::test_sign_in_fails_closed_without_redis_and_the_rest_goes_on"],
    ),
    Mutation(
        "gateway-forwarded",
        "only a trusted proxy says who the client is",
        replace(
            f"{_HERE}/client_request.py",
            'hops = [peer, *(hop.strip() for hop in reversed(forwarded.split(",")) if hop.strip())]',
            'hops = [*(hop.strip() for hop in reversed(forwarded.split(",")) if hop.strip()), peer]',
        ),
        [f"{_TESTS}/test_limits.py::test_only_a_trusted_proxy_says_who_the_client_is"],
    ),
    Mutation(
        "gateway-ipv6",
        "one subscriber's IPv6 addresses are one client",
        replace(f"{_HERE}/client_request.py", "IPv6Network((parsed, 64)", "IPv6Network((parsed, 128)"),
        [f"{_TESTS}/test_limits.py::test_one_ipv6_subscriber_is_one_client"],
    ),
    Mutation(
        "gateway-path-segments",
        "a path with `.`, `..` or empty segments is refused",
        replace(f"{_HERE}/client_request.py", "    if _BAD_SEGMENT.search(path):", "    if False:"),
        [f"{_TESTS}/test_paths.py"],
    ),
    Mutation(
        "gateway-path-separators",
        "an encoded separator is refused",
        replace(
            f"{_HERE}/client_request.py",
            "if not _PATH.match(raw_path) or _ENCODED_SEPARATORS.search(raw_path):",
            "if not _PATH.match(raw_path):",
        ),
        [f"{_TESTS}/test_guards.py::test_an_encoded_separator_is_refused"],
    ),
    Mutation(
        "gateway-framing",
        "a body with two lengths is refused",
        replace(
            f"{_HERE}/client_request.py",
            'if length is not None or coding.strip().lower() != b"chunked":',
            'if coding.strip().lower() != b"chunked":',
        ),
        [f"{_TESTS}/test_paths.py::test_ambiguous_requests_are_refused"],
    ),
    Mutation(
        "gateway-duplicates",
        "a header of which there may be one is there once",
        replace(f"{_HERE}/client_request.py", "            if name in seen:", "            if False:"),
        [f"{_TESTS}/test_headers.py::test_two_values_where_one_counts_are_refused"],
    ),
    Mutation(
        "gateway-header-size",
        "headers are bounded",
        replace(
            f"{_HERE}/client_request.py",
            "if len(headers) > MAX_HEADERS or sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEADER_BYTES:",
            "if False:",
        ),
        [f"{_TESTS}/test_paths.py::test_sizes_of_the_request_line_and_headers_are_bounded"],
    ),
    Mutation(
        "gateway-pipelining",
        "a second request on the heels of the first is not taken",
        replace(f"{_HERE}/http_protocol.py", "            raise _Pipelined\n", "            pass\n"),
        [f"{_TESTS}/test_wire.py::test_a_pipelined_request_is_not_taken_and_the_first_is_answered"],
    ),
    Mutation(
        "gateway-trailers",
        "trailers do not become headers",
        replace(
            f"{_HERE}/http_protocol.py",
            "        if self._in_head:\n            super().on_header(name, value)\n",
            "        super().on_header(name, value)\n",
        ),
        [f"{_TESTS}/test_wire.py::test_trailers_do_not_become_headers"],
    ),
    Mutation(
        "gateway-internal-routes",
        "internal endpoints are nobody's path",
        replace(
            f"{_HERE}/routes.py",
            '    _route(r"/auth/.+", "identity", access=Access.ANONYMOUS),\n',
            '    _route(r"/auth/.+", "identity", access=Access.ANONYMOUS),\n    _route(r"/(internal|metrics)(/.*)?", "identity"),\n',
        ),
        [f"{_TESTS}/test_operators_only.py"],
    ),
)
