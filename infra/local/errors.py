"""Why the embedded stack cannot do what was asked, in words for the person at the terminal.

StackError
|- AccountError     no account for PostgreSQL to run as
|- HomeError        the state folder cannot be used
|  `- HomeBusyError another stack runs in it
|- ProcessError     a process did not start, or ended before it was of use
`- SecretsError     a secret is readable by others
"""


class StackError(RuntimeError):
    """Base of all of them; commands print it and end with status 1."""


class AccountError(StackError):
    pass


class HomeError(StackError):
    pass


class HomeBusyError(HomeError):
    pass


class ProcessError(StackError):
    pass


class SecretsError(StackError):
    pass
