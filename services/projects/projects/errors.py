"""Errors of projects."""

from shared.errors import Conflict, Forbidden, InvalidRequest


class LastOwner(Conflict):
    code = "last_owner"
    detail = "A project keeps at least one owner; make somebody else an owner first."


class NotATenantMember(InvalidRequest):
    status = 422
    code = "not_a_tenant_member"
    detail = "Only members of the tenant can be members of its projects; invite the user first."


class GrantTooWide(Forbidden):
    code = "grant_too_wide"
    detail = "A role is given by who may do all that it allows, and by no key that is tied to a project."
