"""All guards that can be removed, by where they are."""

from tests.isolation.mutations.guards import (
    access,
    answers,
    bus,
    confinement,
    database,
    gateway,
    identity,
    indexing,
    invalidations,
    notifier,
    projects,
)
from tests.isolation.mutations.model import Mutation

ALL: tuple[Mutation, ...] = (
    *database.MUTATIONS,
    *access.MUTATIONS,
    *gateway.MUTATIONS,
    *identity.MUTATIONS,
    *projects.MUTATIONS,
    *indexing.MUTATIONS,
    *confinement.MUTATIONS,
    *answers.MUTATIONS,
    *notifier.MUTATIONS,
    *bus.MUTATIONS,
    *invalidations.MUTATIONS,
)
