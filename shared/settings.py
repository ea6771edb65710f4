"""Settings of a service: environment variables `QUARRY_<SERVICE>_<NAME>`, or `..._FILE` naming a file with the value.

A secret has no default. A missing one stops the start with a message that names the variable; the service never runs
unprotected.
"""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict


class Role(StrEnum):
    """What a process of a service does; naming a subset scales parts of one image separately."""

    HTTP = "http"
    EVENTS = "events"
    JOBS = "jobs"


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


class SettingsError(RuntimeError):
    """The environment does not describe a service that may start."""


class ServiceSettings(BaseSettings):
    """What every service needs. A subclass sets `service` and adds its own fields."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)
    service: ClassVar[str]

    redis_url: SecretStr
    service_secret: SecretStr
    identity_url: str
    projects_url: str = ""
    roles: Annotated[frozenset[Role], NoDecode] = frozenset(Role)
    environment: str = "production"
    log_level: str = "INFO"
    log_format: LogFormat = LogFormat.JSON
    otlp_endpoint: str | None = None

    @classmethod
    def load(cls) -> Self:
        """Read the process environment.

        Raises:
            SettingsError: a variable is missing or malformed; the message names it and never shows a value.
        """
        prefix = f"QUARRY_{cls.service.upper()}_"
        values = _from_environment(cls, prefix, os.environ)
        try:
            return cls(**values)
        except ValidationError as error:
            problems = "; ".join(
                f"{prefix}{'_'.join(str(part) for part in item['loc']).upper()}: {item['msg'].lower()}"
                for item in error.errors(include_input=False, include_url=False)
            )
            raise SettingsError(f"{cls.service} cannot start: {problems}") from error

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *args: Any, **kwargs: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` found counts: on its own pydantic-settings also reads `DATABASE_URL`, without any prefix."""
        return (init_settings,)

    def __init__(self, **values: object) -> None:
        roles = values.get("roles")
        if isinstance(roles, str):
            values["roles"] = frozenset(part.strip() for part in roles.split(",") if part.strip())
        super().__init__(**values)  # type: ignore[arg-type]  # pydantic validates what arrives


class DatabaseSettings(ServiceSettings):
    """What a service with its own schema needs besides."""

    database_url: SecretStr
    system_database_url: SecretStr
    database_pool_size: int = Field(default=10, ge=2, le=200)
    database_pool_seconds: float = Field(default=1.5, gt=0, le=60)  # the longest wait for a connection
    outbox_backlog_limit: int = Field(default=100_000, ge=1)
    bus_idle_ms: int = Field(default=5_000, ge=100)


def _from_environment(cls: type[ServiceSettings], prefix: str, environ: Mapping[str, str]) -> dict[str, object]:
    """Each field from `QUARRY_<SERVICE>_X`, the file of `QUARRY_<SERVICE>_X_FILE`, or `QUARRY_X` for all services."""
    values: dict[str, object] = {}
    for name in cls.model_fields:
        for variable in (prefix + name.upper(), f"QUARRY_{name.upper()}"):
            if variable in environ:
                values[name] = environ[variable]
                break
            if path := environ.get(f"{variable}_FILE"):
                values[name] = _read_secret(variable, Path(path))
                break
    return values


def _read_secret(variable: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{variable}_FILE: cannot read {path}: {error.strerror}") from error
