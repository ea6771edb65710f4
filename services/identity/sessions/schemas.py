"""HTTP shapes of sessions."""

import uuid
from datetime import datetime

from pydantic import BaseModel


class SessionOut(BaseModel):
    """A session of the caller. `current` is true for the session that this request came with."""

    id: uuid.UUID
    user_agent: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    current: bool
