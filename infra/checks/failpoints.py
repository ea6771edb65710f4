"""Every commit, publish and acknowledgement can be made to fail: each such call shares its function with a failpoint.

    python -m infra.checks.failpoints

A *site* is a call of one of `SITES`. The function it stands in has to reach a failpoint, and every declared failpoint
has to be reached; `EXEMPT` names the modules and functions that need none, with the reason. Writing an outbox row is
not a site: it is part of the transaction whose commit is one.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = ("services", "shared")
SITES: Final = {
    "begin": "commits when its block ends",
    "commit": "commits",
    "xack": "acknowledges",
    "xadd": "publishes",
    "xtrim": "removes what was published",
}

EXEMPT: Final = {
    "shared/migrations.py": "one transaction, before any service starts, repeated as a whole",
    "shared/relay.py:_wake_the_leader": "only a hint: without it the leader looks a little later",
}
_SESSIONS: Final = {"session", "connection"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def problems_of(source: str, name: str) -> list[str]:
    """What is wrong in one module, as `name:line: sentence`."""
    tree = ast.parse(source)
    found = [
        f"{name}:{call.lineno}: `{attribute}` {SITES[attribute]}, and {function.name} reaches no failpoint"
        for function in _functions(tree)
        if f"{name}:{function.name}" not in EXEMPT
        if not any(True for _ in _calls(function, {"reach"}))
        for call, attribute in _calls(function, set(SITES))
    ]
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    found += [
        f"{name}:{line}: the failpoint {declared} is never reached"
        for declared, line in _declarations(tree)
        if declared not in loaded
    ]
    return found


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _calls(function: Function, attributes: set[str]) -> Iterator[tuple[ast.Call, str]]:
    """Method calls in the function itself, not in functions inside it."""
    waiting: list[ast.AST] = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if isinstance(node, Function):
            continue
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in attributes
            and (node.func.attr != "begin" or _is_session(node.func.value))
        ):
            yield node, node.func.attr
        waiting += ast.iter_child_nodes(node)


def _is_session(node: ast.expr) -> bool:
    """Other objects have a `begin` as well."""
    return isinstance(node, ast.Name) and node.id in _SESSIONS


def _declarations(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign) else None
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "failpoint":
            for target in node.targets if isinstance(node, ast.Assign) else ():
                if isinstance(target, ast.Name):
                    yield target.id, node.lineno


def main() -> None:
    problems = [
        problem
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in EXEMPT
        for problem in problems_of(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    ]
    print("\n".join(problems) or "Every commit, publish and acknowledgement has its failpoint.")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
