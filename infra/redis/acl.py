"""The access list of a Redis server: an account per service, an operator who has every right, no others.

    python -m infra.redis.acl /run/redis/users.acl

writes the file that `redis-server --aclfile` reads, with mode 0600. Passwords come from the environment:
`QUARRY_<SERVICE>_REDIS_PASSWORD` for each service and `QUARRY_OPERATOR_REDIS_PASSWORD`, or the same with `_FILE`. The
file holds only their SHA-256: as good as a slow hash where passwords are random, so short ones are refused.

Each grant becomes a selector: Redis allows a command when a single selector allows the command and all of its keys. So
a service may acknowledge on a stream, which writes to it, and still not add to it.

The default user is off, so that no client gets in without a name, and still has every right: as that user Redis replays
its append-only file. Without rights it would leave out every transaction there, and a group's read of several entries
is one: after a restart the group would be past entries that no consumer holds.
"""

import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.redis.rights import Grant, commands_without_keys, grants
from shared.topology import SERVICES

OPERATOR: Final = "operator"
USERS: Final = (*SERVICES, OPERATOR)
_SHORTEST: Final = 32
_EVERYTHING: Final = "~* &* +@all"


class AclError(RuntimeError):
    """The access list cannot be made."""


def render(passwords: Mapping[str, str]) -> str:
    """Content of the file.

    Args:
        passwords: of every one of `USERS`, at least 32 characters each.

    Raises:
        AclError: a password is missing or short; names its user.
    """
    unfit = [user for user in USERS if len(passwords.get(user, "")) < _SHORTEST]
    if unfit:
        raise AclError(f"no password, or one of fewer than {_SHORTEST} characters, for {', '.join(unfit)}")
    lines = [f"user default off {_EVERYTHING}", _line(OPERATOR, passwords[OPERATOR], _EVERYTHING)]
    lines += [_line(service, passwords[service], _rights(service)) for service in SERVICES]
    return "\n".join([*lines, ""])


def write(path: Path, passwords: Mapping[str, str]) -> None:
    """Replace the file in one step; a running server reads it at `ACL LOAD` or its next start.

    Raises:
        AclError: as `render`.
    """
    content = render(passwords)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mode 0600
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(content)
    Path(name).replace(path)


def passwords_from(environ: Mapping[str, str]) -> dict[str, str]:
    """Passwords from the environment; those it does not give are left out.

    Raises:
        AclError: a file that it names cannot be read.
    """
    found: dict[str, str] = {}
    for user in USERS:
        variable = f"QUARRY_{user.upper()}_REDIS_PASSWORD"
        if variable in environ:
            found[user] = environ[variable]
        elif path := environ.get(f"{variable}_FILE"):
            try:
                found[user] = Path(path).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise AclError(f"{variable}_FILE: cannot read {path}: {error.strerror}") from error
    return found


def main() -> None:
    """The command."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m infra.redis.acl FILE")
    try:
        write(Path(sys.argv[1]), passwords_from(os.environ))
    except (AclError, OSError) as error:
        sys.exit(str(error))


def _line(user: str, password: str, rights: str) -> str:
    return f"user {user} reset on #{hashlib.sha256(password.encode()).hexdigest()} {rights}"


def _rights(service: str) -> str:
    bare = (f"+{command}" for command in commands_without_keys(service))
    return " ".join([*bare, *(_selector(grant) for grant in grants(service))])


def _selector(grant: Grant) -> str:
    return f"(%{grant.access}~{grant.keys} {' '.join(f'+{command}' for command in grant.commands)})"


if __name__ == "__main__":
    main()
