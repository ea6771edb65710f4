"""The services of an installation. The one place that lists them."""

from typing import Final, Literal, get_args

Backend = Literal["identity", "projects", "indexing", "notifier"]
"""A service behind the gateway. Each has a schema and three database roles, an outbox, a stream of its own, and an
audience of internal tokens."""

BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)
SERVICES: Final = (*BACKENDS, "gateway")
