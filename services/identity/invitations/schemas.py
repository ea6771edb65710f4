"""HTTP shapes of invitations."""

import uuid
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from shared.events.identity import TenantRole
from shared.request_bodies import Input, one_line


class InvitationCreate(Input):
    """`email` must be a verified address of the user who accepts."""

    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$"), AfterValidator(one_line)]
    role: TenantRole = "member"


class InvitationOut(BaseModel):
    """An invitation that is still open or has expired, but was neither accepted nor revoked. It becomes invalid when
    its sender, or the key it was sent with, may no longer grant the role."""

    id: uuid.UUID
    email: str
    role: TenantRole
    status: Literal["open", "expired"]
    invited_by: uuid.UUID
    invited_by_key: uuid.UUID | None
    created_at: datetime
    expires_at: datetime


class InvitationCreated(InvitationOut):
    """The only response that contains the token. Pass it on to the invited person."""

    token: str
