"""Guards of events: their tenant, their form, and what each service may do in Redis."""

from tests.isolation.mutations.model import Mutation, replace

_EVENTS = "tests/isolation/test_events.py"
_ACL = "tests/infra/test_redis_acl.py"
_ALLOWED = f"{_ACL}::test_a_service_may_do_with_keys_what_its_part_needs_and_nothing_else"

MUTATIONS = (
    Mutation(
        "events-tenant",
        "an event is applied in a transaction of its envelope's tenant, one tenant at a time",
        replace(
            "shared/delivery.py",
            "by_tenant.setdefault(work.received.envelope.tenantid, []).append(work)",
            "by_tenant.setdefault(uuid.UUID(int=1), []).append(work)",
        ),
        [f"{_EVENTS}::test_events_of_two_tenants_in_one_read_stay_apart"],
    ),
    Mutation(
        "events-producer",
        "an event is accepted only on its producer's stream",
        replace(
            "shared/events/envelope.py",
            'if stream != f"events.{producer}" or envelope.source != source_of(envelope.type):',
            "if envelope.source != source_of(envelope.type):",
        ),
        [
            "tests/shared/test_delivery.py::"
            "test_an_event_on_the_stream_of_another_producer_is_quarantined_and_not_applied"
        ],
    ),
    Mutation(
        "events-source",
        "an event is accepted only with its producer as source",
        replace(
            "shared/events/envelope.py",
            'if stream != f"events.{producer}" or envelope.source != source_of(envelope.type):',
            'if stream != f"events.{producer}":',
        ),
        [
            "tests/shared/test_delivery.py::"
            "test_an_event_on_the_stream_of_another_producer_is_quarantined_and_not_applied"
        ],
    ),
    Mutation(
        "events-producer-streams",
        "the notifier ends streams only on events from their producer's stream",
        replace(
            "services/notifier/streams/revocations.py",
            "Envelope.from_stream(raw, stream)",
            "Envelope.from_json(raw)",
        ),
        [f"{_EVENTS}::test_an_event_of_another_tenant_ends_no_stream"],
    ),
    Mutation(
        "events-shared-session",
        "objects loaded for one event are not reused for the next",
        replace(
            "shared/handlers.py",
            "        session.expunge_all()\n        _log.debug",
            "        _log.debug",
        ),
        ["tests/shared/test_delivery.py::test_what_one_event_has_loaded_is_not_what_the_next_one_sees"],
    ),
    Mutation(
        "events-version",
        "an event of an unknown version is quarantined",
        replace(
            "shared/delivery.py",
            '            raise Undecodable(f"unknown version: {envelope.type}")\n',
            "            return None\n",
        ),
        [f"{_EVENTS}::test_an_unknown_version_is_quarantined_and_changes_nothing"],
    ),
    Mutation(
        "events-inbox",
        "an event's effect is applied once",
        replace(
            "shared/inbox.py", "    return {(row.event_id, row.handler) for row in claimed}", "    return set(wanted)"
        ),
        [
            "tests/shared/test_delivery.py::test_the_same_event_twice_in_a_batch_has_one_effect",
            f"{_EVENTS}::test_an_event_that_comes_again_has_no_second_effect",
        ],
    ),
    Mutation(
        "events-logged-reason",
        "content quoted in a dead letter's reason is not logged",
        replace("shared/delivery.py", "failure = error_name(reason)", "failure = reason"),
        ["tests/shared/test_guards.py::test_what_a_poisoned_entry_holds_is_not_logged"],
    ),
    Mutation(
        "redis-default-user",
        "Redis requires a user name and a password",
        replace("infra/redis/acl.py", '[f"user default off {', '[f"user default on nopass {'),
        [f"{_ACL}::test_nobody_else_gets_in"],
    ),
    Mutation(
        "redis-subscribers",
        "a subscriber cannot write to a stream it reads",
        replace(
            "infra/redis/rights.py", '("xack", "xclaim", "xautoclaim",', '("xadd", "xack", "xclaim", "xautoclaim",'
        ),
        [_ALLOWED],
    ),
    Mutation(
        "redis-followers",
        "a follower can only read",
        replace(
            "infra/redis/rights.py",
            'return Grant(stream, "R", ("xread", "xrevrange"))',
            'return Grant(stream, "RW", ("xread", "xrevrange", "xdel"))',
        ),
        [_ALLOWED],
    ),
    Mutation(
        "redis-gateway-keys",
        "the gateway's script can access only the state of limits",
        replace("infra/redis/rights.py", 'Grant("gateway:limit:*", "RW"', 'Grant("*", "RW"'),
        [_ALLOWED, f"{_ACL}::test_a_script_of_the_gateway_reaches_no_further_than_the_gateway"],
    ),
    Mutation(
        "redis-server-commands",
        "no service can run server-wide commands",
        replace("infra/redis/rights.py", 'CONNECTION: Final = ("ping",', 'CONNECTION: Final = ("flushall", "ping",'),
        [f"{_ACL}::test_no_service_may_do_what_concerns_the_whole_server"],
    ),
)
