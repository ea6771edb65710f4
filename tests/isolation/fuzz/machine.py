"""Programs of people of two tenants, made by Hypothesis, against the model: every answer is the one it expects.

Each program begins with two new tenants of four people each. A step lets somebody do one thing, to something of its own
tenant, of the other one, or to what never existed; before the next step what it changed of anybody's access has taken
effect (`tests.isolation.fuzz.actors`). Now and then everything everybody may list is compared with the model.

A program that fails is shrunk; its steps are told as the calls that repeat it with the same seed.
"""

import asyncio
import time
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.isolation.fuzz.actions import Actions
from tests.isolation.fuzz.actors import Actors
from tests.isolation.fuzz.checks import Foreign
from tests.isolation.fuzz.scene import TAGS
from tests.isolation.fuzz.tally import Tally
from tests.isolation.fuzz.tenant_actions import ROLES, SCOPES

_T = TypeVar("_T")

_PROGRAMS: Final = 4
_STEPS: Final = 30
_COMPARED_EVERY: Final = 6
# People grow slow with the tenants they have been in.
_PROGRAMS_OF_ACTORS: Final = 12
# Of a failure, as much as fits on a page.
_MOST_SAID: Final = 1500
_FRAMES: Final = 6
_Some = st.integers(0, 60)
_VERBS: Final = ("get", "content", "chunks", "similar", "patch", "delete", "cancel", "retry")


@dataclass(frozen=True, slots=True)
class Task:
    """What the process of the machine is to do."""

    url: str
    issuer: str
    postgres: str
    foreign: Foreign
    seed: int
    seconds: float


@dataclass(slots=True)
class Stage:
    """What programs have in common: an event loop, people, counts."""

    runner: asyncio.Runner
    actors: Actors
    tally: Tally


class TwoTenants(RuleBasedStateMachine):
    """The rules. Numbers pick who, what and where from what there is at that time."""

    stage: ClassVar[Stage]

    def __init__(self) -> None:
        super().__init__()
        self.actions = Actions(self.stage.actors)
        self.steps = 0

    def run(self, name: str, action: Coroutine[Any, Any, _T]) -> _T:
        self.steps += 1
        self.stage.tally.done["steps"] += 1
        self.stage.tally.done[f"rule {name}"] += 1
        return self.stage.runner.run(action)

    @initialize()
    def begin(self) -> None:
        self.stage.tally.done["programs"] += 1
        self.stage.runner.run(self.actions.begin())

    @rule(who=_Some)
    def create_project(self, who: int) -> None:
        self.run("create_project", self.actions.create_project(who))

    @rule(who=_Some, where=_Some, tag=st.sampled_from(TAGS))
    def patch_project(self, who: int, where: int, tag: str) -> None:
        self.run("patch_project", self.actions.patch_project(who, where, tag))

    @rule(who=_Some, where=_Some, tag=st.sampled_from(TAGS))
    def delete_project(self, who: int, where: int, tag: str) -> None:
        self.run("delete_project", self.actions.delete_project(who, where, tag))

    @rule(who=_Some, where=_Some)
    def restore_project(self, who: int, where: int) -> None:
        self.run("restore_project", self.actions.restore_project(who, where))

    @rule(who=_Some, where=_Some, whom=_Some, role=st.sampled_from(["owner", "editor", "viewer"]))
    def put_member(self, who: int, where: int, whom: int, role: str) -> None:
        self.run("put_member", self.actions.put_member(who, where, whom, role))

    @rule(who=_Some, where=_Some, whom=_Some)
    def remove_project_member(self, who: int, where: int, whom: int) -> None:
        self.run("remove_project_member", self.actions.remove_project_member(who, where, whom))

    @rule(who=_Some, where=_Some, broken=st.integers(0, 7))
    def upload(self, who: int, where: int, broken: int) -> None:
        self.run("upload", self.actions.upload(who, where, broken=broken == 7))

    @rule(who=_Some, which=_Some, verb=st.sampled_from(_VERBS))
    def touch_document(self, who: int, which: int, verb: str) -> None:
        self.run(f"{verb}_document", getattr(self.actions, f"{verb}_document")(who, which))

    @rule(who=_Some, where=_Some, which=_Some, mode=st.sampled_from(["keyword", "hybrid", "semantic"]))
    def search(self, who: int, where: int, which: int, mode: str) -> None:
        self.run("search", self.actions.search(who, where, which, mode))

    @rule(who=_Some, where=_Some)
    def follow(self, who: int, where: int) -> None:
        self.run("follow", self.actions.follow(who, where))

    @rule(who=_Some, whom=_Some, role=st.sampled_from(ROLES))
    def change_role(self, who: int, whom: int, role: str) -> None:
        self.run("change_role", self.actions.change_role(who, whom, role))

    @rule(who=_Some, whom=_Some)
    def remove_member(self, who: int, whom: int) -> None:
        self.run("remove_member", self.actions.remove_member(who, whom))

    @rule(who=_Some, whom=_Some, role=st.sampled_from(ROLES))
    def invite(self, who: int, whom: int, role: str) -> None:
        self.run("invite", self.actions.invite(who, whom, role))

    @rule(who=_Some, which=_Some)
    def accept(self, who: int, which: int) -> None:
        self.run("accept", self.actions.accept(who, which))

    @rule(who=_Some, which=_Some)
    def revoke_invitation(self, who: int, which: int) -> None:
        self.run("revoke_invitation", self.actions.revoke_invitation(who, which))

    @rule(who=_Some, where=_Some)
    def activate(self, who: int, where: int) -> None:
        self.run("activate", self.actions.activate(who, where))

    @rule(who=_Some, scopes=st.sampled_from(SCOPES), where=_Some, tied=st.integers(0, 2))
    def create_key(self, who: int, scopes: frozenset[str], where: int, tied: int) -> None:
        self.run("create_key", self.actions.create_key(who, scopes, where, tied=tied == 2))

    @rule(who=_Some, which=_Some)
    def revoke_key(self, who: int, which: int) -> None:
        self.run("revoke_key", self.actions.revoke_key(who, which))

    @precondition(lambda self: self.actions.unsettled)
    @rule()
    def settle(self) -> None:
        self.run("settle", self.actions.settle())

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        if self.steps and self.steps % _COMPARED_EVERY == 0:
            self.stage.tally.done["comparisons"] += 1
            self.stage.runner.run(self.actions.compare())

    def teardown(self) -> None:
        if self.actions.tenants:
            self.stage.runner.run(self.actions.end())


def fuzz(task: Task) -> Tally:
    """Programs until the time is over."""
    tally = Tally("machine", task.seed)
    began = time.monotonic()
    batch = 0
    with asyncio.Runner() as runner:
        while time.monotonic() < began + task.seconds or batch == 0:
            actors = Actors(task.url, task.foreign, tally, task.postgres)
            runner.run(actors.gather(task.issuer))
            for _ in range(_PROGRAMS_OF_ACTORS // _PROGRAMS):
                if time.monotonic() < began + task.seconds or batch == 0:
                    _programs(Stage(runner, actors, tally), task.seed * 1000 + batch)
                    batch += 1
            runner.run(actors.closing.aclose())
    tally.seconds = time.monotonic() - began
    return tally


def _programs(stage: Stage, number: int) -> None:
    machine = type("Programs", (TwoTenants,), {"stage": stage})
    kept = settings(
        max_examples=_PROGRAMS,
        stateful_step_count=_STEPS,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        print_blob=False,
    )
    try:
        run_state_machine_as_test(seed(number)(machine), settings=kept)
    except Exception as error:  # noqa: BLE001  # whatever a program ended with is told with the program
        program = "\n".join(getattr(error, "__notes__", ()))
        trace = "".join(traceback.format_exception(error, limit=-_FRAMES))
        kind = f"{type(error).__name__} {str(error)[:60]}"
        what = f"{type(error).__name__}: {error}"[:_MOST_SAID]
        stage.tally.failed("machine", f"seed {number}", what, f"{program}\n{trace}", kind=kind)
