"""Guards that make an answer true at once in every process that keeps copies: `shared.invalidations`."""

from tests.isolation.mutations.model import Mutation, replace

_HERE = "shared/invalidations"
_TESTS = "tests/shared/test_invalidations.py"
_TOLD = f"{_TESTS}::test_whoever_was_answered_finds_it_in_every_holder"
_SILENT = f"{_TESTS}::test_a_holder_that_does_not_answer_is_waited_for_until_it_may_not_use_its_copies"
_LATER = f"{_TESTS}::test_what_a_durable_holder_missed_is_told_to_the_next_of_its_service"
_APART = (
    "tests/shared/test_projected_copies.py::test_what_cannot_be_applied_for_one_tenant_keeps_its_copies_alone_from_use"
)

MUTATIONS = (
    Mutation(
        "invalidation-recorded",
        "an event that invalidates copies is recorded for their holders",
        replace("shared/outbox.py", "if consumers := holders_of(event.type):", "if consumers := frozenset():"),
        [_TOLD],
    ),
    Mutation(
        "invalidation-awaited",
        "the response is sent after the holders have acknowledged",
        replace("shared/tenancy.py", "                await self._wait(item)\n", "                pass\n"),
        [_SILENT],
    ),
    Mutation(
        "invalidation-acknowledged",
        "the response waits for holders that are behind",
        replace(f"{_HERE}/owner.py", "known = all(", "known = True or all("),
        [_SILENT],
    ),
    Mutation(
        "invalidation-lease-ends",
        "a holder without a lease does not use its copies",
        replace(f"{_HERE}/holder.py", "return self._now() < self._until", "return self._until > 0"),
        [_SILENT],
    ),
    Mutation(
        "invalidation-missed",
        "a lease is valid again only after missed invalidations were sent",
        replace(f"{_HERE}/holder.py", '        if entries := changes["entries"]:', "        if entries := []:"),
        [_LATER, _TOLD],
    ),
    Mutation(
        "invalidation-services-alone",
        "only services can get leases",
        replace(f"{_HERE}/router.py", ", dependencies=[operation(Operation.HOLD_COPIES)]", ""),
        [f"{_TESTS}::test_a_lease_is_for_services_alone_and_each_hears_what_is_its_own"],
    ),
    Mutation(
        "projection-tenant-behind",
        "copies are not used while an event of their tenant could not be applied",
        replace(f"{_HERE}/projected_copies.py", "if tenant_id in self._behind:", "if False:"),
        [_APART],
    ),
    Mutation(
        "projection-tenants-apart",
        "an event that cannot be applied for one tenant does not block other tenants' copies",
        replace(f"{_HERE}/projected_copies.py", "if tenant_id in self._behind:", "if self._behind:"),
        [_APART],
    ),
    Mutation(
        "projection-lease",
        "a projection is not used without its owner's lease",
        replace("shared/project_access.py", "        self._projection.check(tenant_id)\n", "        pass\n"),
        ["tests/shared/test_guards.py::test_a_projection_without_its_owners_lease_is_not_used"],
    ),
)
