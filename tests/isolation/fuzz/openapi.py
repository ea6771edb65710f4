"""Requests made by schemathesis from the API's own document, as one tenant, until the time is over.

Two ways, in turn. *Operations*: a round of valid and of invalid requests for each. *Chains*: schemathesis' state
machine, which follows from one answer to the next request by the links it infers from the document. In both, ids in
the path are the tenant's own, those of its neighbours, deleted ones, or what schemathesis invented; what answers give
joins the tenant's own.

The seed decides what is generated; what is picked from the tenant's own also depends on what answers have given.
Failures do not stop it, and need no shrinking: one request, with its credential's name, shows each again.
"""

import random
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, Final

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky, Unsatisfiable
from schemathesis import Case, GenerationMode, Response
from schemathesis.config import ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.generation.stateful.state_machine import StepOutput
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.isolation.fuzz.aiming import Aim
from tests.isolation.fuzz.checks import Answer, Foreign, wrong_with
from tests.isolation.fuzz.planted import Credential, Planted
from tests.isolation.fuzz.tally import Tally

ROUND: Final = 12
_CHAINS: Final = 2
_CHAINS_EVERY: Final = 8
# What was generated is sent so often, each time as somebody and to something else.
_SENT: Final = 3
_STEPS: Final = 12
_SECONDS: Final = 60.0
_FRAMES: Final = 6
# A stream says all it has to say at once; then it is left.
_EVENTS_OF_A_STREAM: Final = 1
_SETTINGS: Final = settings(
    max_examples=ROUND,
    stateful_step_count=_STEPS,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
_CONFORMANCE: Final = [status_code_conformance, content_type_conformance, response_headers_conformance]


@dataclass(frozen=True, slots=True)
class Task:
    """What one process is to do: everything it has to know, to be sent to it."""

    url: str
    document: dict[str, Any]
    own: Planted
    foreign: Foreign
    others: list[Planted]
    seed: int
    seconds: float
    round_size: int = ROUND


def fuzz(task: Task) -> Tally:
    """Until the time is over, and every operation at least once."""
    fuzzing = _Fuzzing(task)
    began = time.monotonic()
    round_number = 0
    while time.monotonic() < began + task.seconds or round_number == 0:
        fuzzing.round(task.seed + round_number, until=began + task.seconds, whole=round_number == 0)
        round_number += 1
    fuzzing.tally.done["rounds"] = round_number
    fuzzing.tally.seconds = time.monotonic() - began
    return fuzzing.tally


@dataclass(slots=True)
class _Fuzzing:
    """One tenant's fuzzing: its ids so far, and what was found."""

    task: Task
    tally: Tally = field(init=False)
    chance: random.Random = field(init=False)
    session: requests.Session = field(default_factory=requests.Session)
    schema: Any = field(init=False)
    machine: Any = field(init=False)
    aim: Aim = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(f"requests {self.task.own.letter.upper()}", self.task.seed)
        self.chance = random.Random(f"{self.task.seed}/{self.task.own.letter}")
        config = SchemathesisConfig(
            seed=self.task.seed,
            projects=ProjectsConfig(default=ProjectConfig(max_stream_events=_EVENTS_OF_A_STREAM)),
        )
        self.schema = schemathesis.openapi.from_dict(self.task.document, config=config)
        self.machine = self._machine()
        self.aim = Aim(self.task.own, self.task.others, self.chance)

    def round(self, number: int, *, until: float, whole: bool) -> None:
        """All operations, in an order of their own, and chains in between."""
        operations = [result.ok() for result in self.schema.get_all_operations()]
        self.chance.shuffle(operations)
        for place, operation in enumerate(operations):
            if time.monotonic() > until and not whole:
                return
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                self._operation(operation, mode, number)
            if place % _CHAINS_EVERY == 0:
                self._chains(number * len(operations) + place)

    def _operation(self, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, number: int) -> None:
        @seed(number)
        @settings(_SETTINGS, max_examples=self.task.round_size // (1 if mode is GenerationMode.POSITIVE else 2))
        @given(case=operation.as_strategy(mode))
        def ask(case: Case[Any]) -> None:
            self.ask(case)

        try:
            ask()
        except Unsatisfiable:
            # Nothing invalid can be made for an operation without parameters.
            if mode is GenerationMode.POSITIVE:
                self.tally.failed("fuzzer", operation.label, "no valid request could be made", "")
        except Exception as error:  # noqa: BLE001  # one operation must not end the run; it fails it
            self._broken(operation.label, error)
        self.tally.done[f"rounds of {mode.value} requests"] += 1

    def _broken(self, where: str, error: Exception) -> None:
        trace = "".join(traceback.format_exception(error, limit=-_FRAMES))
        self.tally.failed("fuzzer", where, repr(error)[:500], trace, kind=type(error).__name__)

    def _machine(self) -> Any:
        fuzzing = self

        class Chain(self.schema.as_state_machine()):  # type: ignore[misc]  # made at run time from the document
            def step(self, input: Any) -> Any:
                credential, applied = fuzzing.aim.prepare(input.case, linked=bool(input.applied_parameters))
                fuzzing.tally.done["steps of chains that follow an answer"] += bool(applied)
                response = fuzzing.send(input.case, credential)
                if response is None:
                    return None
                self.recorder.record_response(case_id=input.case.id, response=response)
                return StepOutput(response, input.case)

        return Chain

    def _chains(self, number: int) -> None:
        try:
            seed(number)(self.machine).run(settings=settings(_SETTINGS, max_examples=_CHAINS))
        except Flaky:
            # What answers give differs from run to run, and with it what can be made of them.
            self.tally.done["chains given up"] += 1
        except Exception as error:  # noqa: BLE001  # as above
            self._broken("chains", error)
        self.tally.done["chains"] += _CHAINS

    def ask(self, case: Case[Any]) -> None:
        generated = dict(case.path_parameters), case.headers.get("If-Match")
        for _ in range(_SENT):
            case.path_parameters = dict(generated[0])
            credential, _ = self.aim.prepare(case, linked=False, tag=generated[1])
            if self.send(case, credential) is None:
                return

    def send(self, case: Case[Any], credential: Credential) -> Response | None:
        """Ask, and note what is wrong with the answer; None without one."""
        label = case.operation.label
        again = f"as {credential.name} of {self.task.own.letter.upper()}: {_curl(case)}"
        try:
            response = case.call(
                base_url=self.task.url,
                session=self.session,
                headers=dict(credential.headers),
                timeout=_SECONDS,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            self.tally.failed("no answer", label, repr(error), again, kind=type(error).__name__)
            return None
        self.session.cookies.clear()
        self.tally.answered(label, response.status_code)
        self.tally.done[f"as {credential.name}"] += 1
        question = _all_of(response)
        for wrong in wrong_with(_answer_of(response), self.task.foreign, question=question):
            self.tally.failed(wrong.check, label, wrong.what, again, kind=str(response.status_code))
        self._conforms(case, response, again)
        if response.status_code < 400 and (opened := self.aim.foreign_in(case)):
            self.tally.failed("let in", label, f"{response.status_code} for another tenant's {opened}", again)
        if response.status_code in (200, 201):
            self.aim.remember(case, response, credential)
        return response

    def _conforms(self, case: Case[Any], response: Response, again: str) -> None:
        streamed = "text/event-stream" in response.headers.get("content-type", [""])[0]
        checks = _CONFORMANCE if streamed else [*_CONFORMANCE, response_schema_conformance]
        try:
            case.validate_response(response, checks=checks)
        except FailureGroup as group:
            for failure in group.exceptions:
                what = f"{response.status_code}: {failure}"
                self.tally.failed("document", case.operation.label, what, again, kind=f"{type(failure).__name__}")


def _answer_of(response: Response) -> Answer:
    headers = [(name, value) for name, values in response.headers.items() for value in values]
    text = response.content.decode("utf-8", errors="replace")
    return Answer(str(response.request.method), response.status_code, response.message, headers, text)


def _all_of(response: Response) -> str:
    """Everything that was sent."""
    body = response.request.body or b""
    sent = body.decode("utf-8", errors="replace") if isinstance(body, bytes) else str(body)
    return f"{response.request.url}\n{dict(response.request.headers)}\n{sent}"


def _curl(case: Case[Any]) -> str:
    return case.as_curl_command()[:700]
