"""JSON bodies that a route parses itself: when many arrive at once, parsing them takes turns like other work.

    router = APIRouter(route_class=UnparsedRoute)

    @router.post("/things")
    async def make(thing: Annotated[Unparsed[Thing], Body()]) -> None:
        async with turns.turn(tenant_id):
            made = await thing.parsed()

Guarantees: such a route is documented and bounded as one that takes a `Thing`, and gives the same errors. What costs as
much as the body is large happens in `parsed`, and the event loop runs other tasks before it returns.
Does not guarantee: the order of refusals. The caller is known before the body's content.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar, get_args

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from shared import json_bodies
from shared.errors import InvalidRequest

M = TypeVar("M", bound=BaseModel)


class Unparsed(Generic[M]):
    """The bytes of a body that has to fit the model `M`. For routes of the class `UnparsedRoute`."""

    def __init__(self, body: bytes, model: type[M]) -> None:
        self._body = body
        self._model = model

    async def parsed(self) -> M:
        """Parse the body, while holding a turn.

        Raises:
            RequestValidationError, InvalidRequest, TooLarge: as for a route that takes an `M`.
        """
        try:
            return self._parse()
        finally:
            await asyncio.sleep(0)

    def _parse(self) -> M:
        json_bodies.require_bounds(self._body)
        try:
            return self._model.model_validate(_loaded(self._body), from_attributes=True)
        except ValidationError as error:
            found = error.errors(include_url=False)
            raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in found]) from error

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        (model,) = get_args(source)
        return core_schema.json_or_python_schema(
            json_schema=handler(model),
            python_schema=core_schema.no_info_plain_validator_function(lambda body: cls(body, model)),
        )


class UnparsedRoute(APIRoute):
    """A route that takes an `Unparsed` body. `shared.http_semantics` leaves looking into it to the route."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_bytes(request: Request) -> Response:
            return await handle(_BytesRequest(request.scope, request.receive))

        return handle_bytes


class _BytesRequest(Request):
    async def json(self) -> bytes:
        return await self.body()


def _loaded(body: bytes) -> Any:
    """Parses JSON as FastAPI does, with the same errors."""
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        wrong = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error", "input": {}}
        raise RequestValidationError([{**wrong, "ctx": {"error": error.msg}}], body=error.doc) from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("There was an error parsing the body") from error
