"""HTTP shapes of members."""

import uuid
from datetime import datetime

from pydantic import BaseModel

from shared.events.identity import TenantRole
from shared.http import Input


class RoleChange(Input):
    role: TenantRole


class MemberOut(BaseModel):
    """A member of the active tenant."""

    user_id: uuid.UUID
    name: str
    email: str | None
    role: TenantRole
    joined_at: datetime
