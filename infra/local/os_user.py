"""The system account PostgreSQL runs as when the embedded stack is started by root.

PostgreSQL refuses to run as root. Then, and only then, an account without password, home or shell is used, made at
the first start. Files it must reach may lie below private folders such as root's home: `let_pass` adds the right to
pass through those, never the right to list them.
"""

import os
import pwd
import stat
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from infra.local.errors import AccountError

ACCOUNT = "quarry-postgres"


@dataclass(frozen=True, slots=True)
class Account:
    uid: int
    gid: int

    def give(self, path: Path) -> None:
        """Make the account owner of a file or an empty folder."""
        os.chown(path, self.uid, self.gid)


def server_account() -> Account | None:
    """The account to run PostgreSQL as: None for an ordinary user, who runs it as itself.

    Raises:
        AccountError: root cannot make the account.
    """
    if os.geteuid() != 0:
        return None
    # Another stack may be making the same account: the system's lock on its account files then refuses one of the two.
    problem = "it did not appear"
    for _ in range(20):
        try:
            entry = pwd.getpwnam(ACCOUNT)
        except KeyError:
            problem = _add() or problem
        else:
            return Account(entry.pw_uid, entry.pw_gid)
        time.sleep(0.1)
    raise AccountError(
        f"PostgreSQL does not run as root, and the system account {ACCOUNT!r} cannot be created ({problem}). "
        "Create it manually, or run as an ordinary user."
    )


def _add() -> str | None:
    command = ["useradd", "--system", "--no-create-home", "--home-dir", "/", "--shell", "/usr/sbin/nologin", ACCOUNT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "there is no useradd"
    return done.stderr.strip() if done.returncode else None


def let_pass(paths: Iterable[Path]) -> list[Path]:
    """Let other accounts pass through every folder above `paths`; returns the folders that were closed until now."""
    opened = []
    for folder in dict.fromkeys(parent for path in paths for parent in path.resolve().parents):
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
            opened.append(folder)
    return opened


def let_read(tree: Path) -> None:
    """Let other accounts read and execute what lies in `tree`, for packages installed under a strict umask."""
    if stat.S_IMODE(tree.stat().st_mode) & 0o005 == 0o005:
        return
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            executable = path.is_dir() or mode & stat.S_IXUSR
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if executable else 0))
