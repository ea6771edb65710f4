"""What request bodies are made of: the base of their models, and types of their fields."""

import re
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, model_validator

from shared.problems import MAX_SHOWN_ERRORS

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
_OUT_OF_RANGE = "the time is out of range"


class Input(BaseModel):
    """Base of every request body: unknown fields are refused, not ignored; many of them all at once."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _few_unknown_fields(cls, value: Any) -> Any:
        """Each unknown field is an error of its own, so they are counted before they are looked at."""
        return few_unknown_fields(value, cls)


def few_unknown_fields(value: Any, model: type[BaseModel]) -> Any:
    """For a validator of `model` that runs before all others.

    Raises:
        ValueError: `value` has so many more fields than `model` that naming them one by one is of no use.
    """
    most = len(model.model_fields) + MAX_SHOWN_ERRORS
    if isinstance(value, dict) and len(value) > most:
        raise ValueError(f"there are {len(value)} fields, but only {len(model.model_fields)} are known")
    return value


def one_line(value: str) -> str:
    """`value`, a name or an address, as a validator of a field of an `Input`. Postgres accepts no NUL.

    Raises:
        ValueError: it holds a control character.
    """
    if _CONTROL.search(value):
        raise ValueError("control characters are not allowed")
    return value


def _written_as_a_time(value: Any) -> Any:
    if not isinstance(value, datetime) and not (isinstance(value, str) and _TIME.match(value)):
        raise ValueError("expected an RFC 3339 date and time")
    return value


def _storable(value: datetime) -> datetime:
    try:
        moment = value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(_OUT_OF_RANGE) from error
    # Drivers take moments in the first and the last year for infinity.
    if not MINYEAR < moment.year < MAXYEAR:
        raise ValueError(_OUT_OF_RANGE)
    return moment


Moment = Annotated[AwareDatetime, BeforeValidator(_written_as_a_time), AfterValidator(_storable)]
"""A time in a request, in UTC: every store can hold it and compare it with others."""
