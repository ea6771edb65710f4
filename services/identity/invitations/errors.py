"""Errors of invitations."""

from shared.errors import Forbidden


class InvitationForSomeoneElse(Forbidden):
    code = "invitation_for_someone_else"
    detail = "Sign in with the e-mail address that was invited, verified by your provider."
