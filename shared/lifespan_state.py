"""What an application has made when it started, as its requests find it: ASGI lifespan state, read with types.

A lifespan yields a mapping from names to objects, and the server puts a copy of it into the scope of every request.
Starlette's own types for it (`Request[State]`) are no annotation that FastAPI accepts in a dependency. So each name is
read in one place, by a dependency that says which type it expects.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def from_lifespan(scope: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """What the lifespan has yielded under `name`. `scope` may be a `Request`, which is a view of its scope.

    Raises:
        KeyError: the lifespan does not yield it, or has not run.
        TypeError: it is something else.
    """
    found = scope["state"][name]
    if not isinstance(found, kind):
        raise TypeError(f"the lifespan yields {type(found).__name__} as {name}, not {kind.__name__}")
    return found


def resources_of(scope: Mapping[str, Any], kind: type[T]) -> T:
    """A service's own resources: what its `resources.py` has made.

    Raises:
        KeyError, TypeError: see `from_lifespan`.
    """
    return from_lifespan(scope, "resources", kind)
