"""Handlers of identity's events about tenants and their members."""

from typing import Any

from services.projects.tenants import service
from shared.events.identity import MembershipChanged, TenantDeleted
from shared.handlers import Handler

HANDLERS: tuple[Handler[Any], ...] = (
    Handler(event=TenantDeleted, call=service.forget_tenant, name="projects.forget_tenant"),
    Handler(event=MembershipChanged, call=service.note_departure, name="projects.note_departure"),
)
