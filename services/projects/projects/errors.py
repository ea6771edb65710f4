"""Errors of projects."""

from shared.errors import Conflict, Forbidden, InvalidRequest


class LastOwner(Conflict):
    code = "last_owner"
    detail = "A project needs at least one owner; make another member an owner first."


class NotATenantMember(InvalidRequest):
    status = 422
    code = "not_a_tenant_member"
    detail = "Only members of the tenant can be members of its projects; invite the user first."


class GrantTooWide(Forbidden):
    code = "grant_too_wide"
    detail = "To grant a role you need all of its scopes, and a credential that is not limited to one project."
