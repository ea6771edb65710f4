"""HTTP shapes of sessions."""

import uuid
from datetime import datetime

from pydantic import BaseModel


class SessionOut(BaseModel):
    """One place where the caller is signed in. `current` is the session this request came with."""

    id: uuid.UUID
    user_agent: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    current: bool
