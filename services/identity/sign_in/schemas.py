"""HTTP shapes of sign-in."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel

from services.identity.sign_in.service import Callback


class ProviderOut(BaseModel):
    """A sign-in provider; `login_path` accepts the query parameter `return_to`."""

    name: str
    display_name: str
    login_path: str


class ProvidersOut(BaseModel):
    items: list[ProviderOut]


Text = Annotated[str | None, Query(max_length=4096)]


async def callback_parameters(state: Text = None, code: Text = None, error: Text = None, iss: Text = None) -> Callback:
    """Query of the callback; providers add parameters of their own, which are ignored."""
    return Callback(state=state, code=code, error=error, issuer=iss)
