"""`/v1/me`."""

from fastapi import APIRouter

from services.identity.users import me
from services.identity.users.schemas import Me
from shared.current_principal import CurrentPrincipal
from shared.session_dependencies import SystemSession

router = APIRouter(prefix="/v1/me", tags=["Me"])


@router.get("")
async def get_me(session: SystemSession, principal: CurrentPrincipal) -> Me:
    """The caller, with its tenants and scopes."""
    return await me.describe(session, principal)
