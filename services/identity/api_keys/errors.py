"""Errors of API keys."""

from shared.errors import Forbidden, InvalidRequest


class ScopesTooWide(Forbidden):
    code = "scopes_too_wide"
    detail = "An API key cannot have scopes that its creator does not have."


class ExpiryInvalid(InvalidRequest):
    code = "expiry_invalid"
    detail = "expires_at must be in the future, and no later than the expiry of the key that creates this one."


class ProjectUnknown(InvalidRequest):
    status = 422
    code = "project_unknown"
    detail = "project_id is not a project of this tenant."
