"""Errors of memberships."""

from shared.errors import Conflict, Forbidden


class LastOwner(Conflict):
    code = "last_owner"
    detail = "A tenant needs an owner; make another member an owner first."


class OwnersOnly(Forbidden):
    code = "owners_only"
    detail = "Only an owner can add, change or remove an owner."


class AlreadyMember(Conflict):
    code = "already_member"
    detail = "This user already belongs to the tenant."


class GrantTooWide(Forbidden):
    code = "grant_too_wide"
    detail = "The role includes scopes that your API key does not have."
