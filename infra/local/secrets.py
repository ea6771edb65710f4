"""Secrets of the embedded stack: generated once, one file each, readable by their owner alone.

Processes are given file names (`..._FILE`), not values, so that no secret appears in an environment or argument list.
"""

import base64
import contextlib
import os
import secrets
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from infra.local.errors import SecretsError


def random_token() -> str:
    """256 random bits, safe in URLs and headers."""
    return secrets.token_urlsafe(32)


def random_key() -> str:
    """A key of 32 bytes in base64url."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii")


class SecretStore:
    """A folder of mode 0700 with one file of mode 0600 per secret."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        return self.folder / name

    def get(self, name: str, make: Callable[[], str] = random_token) -> str:
        """The secret of that name; made and kept at the first call, in whichever process that is.

        Raises:
            SecretsError: the file is readable by others.
        """
        path = self.path(name)
        if not path.exists():
            self._make_folder()
            draft = self._draft(make())
            try:
                with contextlib.suppress(FileExistsError):
                    os.link(draft, path)
            finally:
                draft.unlink()
        return self._read(path)

    def put(self, name: str, value: str) -> Path:
        """Replace a secret that is derived from others, such as an address with a password; returns its file."""
        self._make_folder()
        if self.path(name).exists() and self._read(self.path(name)) == value:
            return self.path(name)
        return self._draft(value).replace(self.path(name))

    def _read(self, path: Path) -> str:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise SecretsError(
                f"{path} is readable by others (mode {mode:04o}): run chmod 600, or delete it to have a new one created"
            )
        return path.read_text(encoding="utf-8")

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)

    def _draft(self, value: str) -> Path:
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=".new-")  # mode 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        return Path(name)
