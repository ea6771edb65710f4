"""HTTP shapes of tenants."""

import uuid
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from shared.events.identity import TenantRole
from shared.request_bodies import Input, one_line


class TenantInput(Input):
    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(one_line)]


class TenantOut(BaseModel):
    """A tenant the caller belongs to. `active` is true for the tenant that the caller's credential works in."""

    id: uuid.UUID
    name: str
    role: TenantRole
    active: bool
    created_at: datetime
    updated_at: datetime
