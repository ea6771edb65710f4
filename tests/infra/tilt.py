"""Tilt without Tilt: executes the Tiltfile with a Starlark interpreter and records what it asks for.

Known are the builtins that Quarry's Tiltfile uses, with the parameters that Tilt documents (https://docs.tilt.dev/api).
A name Tilt does not have, a parameter it does not take or a value it would refuse ends the execution, as in Tilt:
`Refused` or the interpreter's own StarlarkError.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import starlark

from infra.local.home import ROOT

AUTO: Final = "TRIGGER_MODE_AUTO"
MANUAL: Final = "TRIGGER_MODE_MANUAL"
Step = Mapping[str, Any]

# Parameters of each builtin; those with `?` may be left out.
_PARAMETERS: Final = {
    "docker_compose": "configPaths env_file? project_name? profiles? wait?",
    "dc_resource": "name trigger_mode? resource_deps? links? labels? auto_init? project_name? new_name? infer_links?",
    "docker_build": (
        "ref context build_args? dockerfile? dockerfile_contents? live_update? match_in_env_vars? ignore? only? "
        "entrypoint? target? ssh? network? secret? extra_tag? container_args? cache_from? pull? platform? extra_hosts?"
    ),
    "local_resource": (
        "name cmd deps? trigger_mode? resource_deps? ignore? auto_init? serve_cmd? cmd_bat? serve_cmd_bat? "
        "allow_parallel? links? labels? env? serve_env? readiness_probe? dir? serve_dir?"
    ),
    "fall_back_on": "files",
    "sync": "local_path remote_path",
    "run": "cmd trigger? echo_off?",
    "restart_container": "",
    "link": "url name?",
    "read_file": "file_path default?",
    "config_define_bool": "name args? usage?",
    "config_parse": "",
    "os_getenv": "key default?",
    "os_putenv": "key value",
}
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
# The order in which Tilt takes the steps of a live update.
_STEPS: Final = ("fall_back_on", "sync", "run", "restart_container")
_MODULES: Final = """
config = struct(define_bool = config_define_bool, parse = config_parse)
os = struct(getenv = os_getenv, putenv = os_putenv)
"""


class Refused(ValueError):
    """Tilt would not take this."""


@dataclass
class Tilt:
    """What a Tiltfile asked for. `options` and `environ` are what the person who starts it says."""

    root: Path = ROOT
    options: Mapping[str, object] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    compose: dict[str, Any] = field(default_factory=dict)
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    commands: dict[str, dict[str, Any]] = field(default_factory=dict)
    defined: set[str] = field(default_factory=set)

    def execute(self, text: str | None = None) -> "Tilt":
        """Run a Tiltfile, the project's own unless another `text` is given.

        Raises:
            StarlarkError: what Starlark or one of the builtins refuses; says where and why.
        """
        text = (self.root / "Tiltfile").read_text(encoding="utf-8") if text is None else text
        self._evaluate("Tiltfile", text)
        return self

    def _evaluate(self, name: str, text: str) -> starlark.Module:
        dialect = starlark.Dialect.extended()
        known = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])
        module = starlark.Module()
        for builtin in _PARAMETERS:
            module.add_callable(builtin, self._builtin(builtin))
        module[AUTO], module[MANUAL] = AUTO, MANUAL
        starlark.eval(module, starlark.parse("builtins", _MODULES, dialect), known)
        starlark.eval(module, starlark.parse(name, text, dialect), known, starlark.FileLoader(self._load))
        return module

    def _load(self, name: str) -> starlark.FrozenModule:
        return self._evaluate(name, (self.root / name).read_text(encoding="utf-8")).freeze()

    def _builtin(self, name: str) -> Callable[..., object]:
        signature = inspect.Signature([_parameter(word) for word in _PARAMETERS[name].split()])
        apply: Callable[[dict[str, Any]], object] = getattr(self, f"_{name}", lambda given: {"step": name, **given})

        def called(*args: object, **options: object) -> object:
            try:
                given = signature.bind(*args, **options).arguments
            except TypeError as error:
                raise Refused(f"{name}: {error}") from error
            return apply(dict(given))

        return called

    # --- builtins ----------------------------------------------------------------------------------------------------

    def _docker_compose(self, given: dict[str, Any]) -> None:
        if self.compose:
            raise Refused("docker_compose: this project has been declared already")
        for path in given["configPaths"]:
            self._existing(path)
        self.compose = given

    def _dc_resource(self, given: dict[str, Any]) -> None:
        if not self.compose:
            raise Refused("dc_resource: there is no docker_compose yet")
        _check_labels(given)
        _check_trigger(given)
        self.containers[given["name"]] = given

    def _local_resource(self, given: dict[str, Any]) -> None:
        if given["name"] in self.commands:
            raise Refused(f"local_resource: {given['name']} is there twice")
        _check_labels(given)
        _check_trigger(given)
        self.commands[given["name"]] = given

    def _docker_build(self, given: dict[str, Any]) -> None:
        if given["ref"] in self.images:
            raise Refused(f"docker_build: {given['ref']} is built twice")
        if given.get("dockerfile") and given.get("dockerfile_contents"):
            raise Refused("docker_build: either dockerfile or dockerfile_contents")
        if given.get("entrypoint"):
            raise Refused("docker_build: docker_compose knows no entrypoint")
        for path in (*given.get("only", ()), given["context"]):
            self._existing(path)
        self._check_steps(given.get("live_update", ()))
        self.images[given["ref"]] = given

    def _check_steps(self, steps: Sequence[Step]) -> None:
        order = [_STEPS.index(step["step"]) for step in steps]
        if order != sorted(order) or order.count(_STEPS.index("restart_container")) > 1:
            raise Refused(f"live_update: steps come in the order {', '.join(_STEPS)}")
        for step in steps:
            if step["step"] == "sync" and not step["remote_path"].startswith("/"):
                raise Refused(f"sync: {step['remote_path']} is not absolute")
            for path in (*_listed(step.get("files", [])), *_listed(step.get("local_path", []))):
                self._existing(path)

    def _read_file(self, given: dict[str, Any]) -> str:
        return self._existing(given["file_path"]).read_text(encoding="utf-8")

    def _config_define_bool(self, given: dict[str, Any]) -> None:
        self.defined.add(given["name"])

    def _config_parse(self, _given: dict[str, Any]) -> Mapping[str, object]:
        if unknown := self.options.keys() - self.defined:
            raise Refused(f"config: unknown {sorted(unknown)}")
        return dict(self.options)

    def _os_getenv(self, given: dict[str, Any]) -> object:
        return self.environ.get(given["key"], given.get("default"))

    def _os_putenv(self, given: dict[str, Any]) -> None:
        self.environ[given["key"]] = given["value"]

    def _existing(self, path: str) -> Path:
        found = self.root / path
        if not found.exists():
            raise Refused(f"{path} does not exist")
        return found


def _parameter(word: str) -> inspect.Parameter:
    default = None if word.endswith("?") else inspect.Parameter.empty
    return inspect.Parameter(word.removesuffix("?"), inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)


def _check_labels(given: Mapping[str, Any]) -> None:
    for label in _listed(given.get("labels", [])):
        if not _LABEL.fullmatch(label):
            raise Refused(f"{given['name']}: {label!r} is no label")


def _check_trigger(given: Mapping[str, Any]) -> None:
    if given.get("trigger_mode", AUTO) not in (AUTO, MANUAL):
        raise Refused(f"{given['name']}: {given['trigger_mode']!r} is no trigger mode")


def _listed(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value
