"""Errors of sign-in. The exact cause is logged; the browser is told what its user can do about it."""

from shared.errors import InvalidRequest, NotFound, Unavailable


class UnknownProvider(NotFound):
    detail = "There is no such sign-in provider."


class ReturnToInvalid(InvalidRequest):
    code = "return_to_invalid"
    detail = "return_to must be a path on this site, beginning with a single slash."


class SignInFailed(InvalidRequest):
    """Base: a sign-in that cannot be completed. `reason` goes to the log."""

    code = "sign_in_failed"
    detail = "The sign-in could not be completed; start again."

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class LoginStateInvalid(SignInFailed):
    code = "login_state_invalid"
    detail = "This sign-in has expired, was already completed, or began in another browser; start again."


class ProviderRefused(SignInFailed):
    code = "provider_refused"
    detail = "The sign-in provider refused the sign-in; start again."


class IdTokenInvalid(SignInFailed):
    code = "id_token_invalid"
    detail = "The sign-in provider's response could not be verified; start again."


class ProviderUnavailable(Unavailable):
    code = "provider_unavailable"
    detail = "The sign-in provider cannot be reached; try again shortly."

    def __init__(self) -> None:
        super().__init__(retry_after=5)
