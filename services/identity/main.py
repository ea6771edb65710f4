"""The identity service: who is who, and the tokens that prove it."""

from fastapi import FastAPI

from services.identity.api_keys.router import router as api_keys
from services.identity.invitations.router import router as invitations
from services.identity.members.router import internal_router as internal_members
from services.identity.members.router import router as members
from services.identity.resources import resources
from services.identity.sessions.router import router as sessions
from services.identity.settings import IdentitySettings
from services.identity.sign_in.router import router as oauth
from services.identity.tenants.router import router as tenants
from services.identity.tokens.router import router as tokens
from services.identity.users.router import router as users
from shared import service

ROUTERS = (oauth, sessions, users, tenants, members, invitations, api_keys, tokens, internal_members)


def create_app() -> FastAPI:
    return service.create_app(IdentitySettings.load(), routers=ROUTERS, resources=resources)
