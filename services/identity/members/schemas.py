"""HTTP shapes of members."""

import uuid
from datetime import datetime

from pydantic import BaseModel, Field

from shared.authority_client import MOST_ASKED
from shared.events.identity import TenantRole
from shared.request_bodies import Input


class RoleChange(Input):
    role: TenantRole


class MembersAsked(Input):
    """Users about whom another service asks whether they belong to a tenant."""

    user_ids: list[uuid.UUID] = Field(max_length=MOST_ASKED, fail_fast=True)


class CurrentMembers(BaseModel):
    """The users who belong to the tenant, with their membership numbers."""

    numbers: dict[uuid.UUID, int]


class MemberOut(BaseModel):
    """A member of the active tenant."""

    user_id: uuid.UUID
    name: str
    email: str | None
    role: TenantRole
    joined_at: datetime


class MembershipOut(BaseModel):
    """A membership for other services; `revision` is the sequence of the `MembershipChanged` that announced it."""

    user_id: uuid.UUID
    role: TenantRole
    revision: int
