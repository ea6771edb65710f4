"""HTTP shapes of invitations."""

import uuid
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from shared.events.identity import TenantRole
from shared.http import Input, one_line


class InvitationCreate(Input):
    """`email` is the address that the one who accepts must have verified."""

    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$"), AfterValidator(one_line)]
    role: TenantRole = "member"


class InvitationOut(BaseModel):
    """An invitation that is still open or has expired, but was neither accepted nor revoked. It ends when who sent it,
    or the key it was sent with, may no longer give the role."""

    id: uuid.UUID
    email: str
    role: TenantRole
    status: Literal["open", "expired"]
    invited_by: uuid.UUID
    invited_by_key: uuid.UUID | None
    created_at: datetime
    expires_at: datetime


class InvitationCreated(InvitationOut):
    """The only answer that holds the token. Hand it to the invited person."""

    token: str
