"""HTTP shapes of API keys."""

import uuid
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from shared.auth import Scope
from shared.request_bodies import Input, Moment, one_line


class ApiKeyCreate(Input):
    """`scopes` must be among the caller's own. `project_id` limits the key to one project of the tenant."""

    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(one_line)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope), fail_fast=True)]
    expires_at: Moment | None = None
    project_id: uuid.UUID | None = None


class ApiKeyOut(BaseModel):
    """An API key without its secret; `prefix` is how the key begins. It stops working when the key it was created with,
    `created_by_key`, does."""

    id: uuid.UUID
    name: str
    prefix: str
    user_id: uuid.UUID
    scopes: list[Scope]
    project_id: uuid.UUID | None
    created_by_key: uuid.UUID | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class ApiKeyCreated(ApiKeyOut):
    """The only response that contains the key itself."""

    key: str
