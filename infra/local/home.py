"""The folder with everything a stack keeps, `.quarry` unless `QUARRY_HOME` says otherwise.

    postgres/  redis/  blobs/  vectors/  models/     data
    secrets/                                         one file each, 0600
    run/                                             sockets
    ports.json  dev.json  dev.lock

One stack at a time: `lock` is held by the kernel for as long as its holder lives, so a crash leaves none behind.
"""

import contextlib
import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from infra.local.errors import HomeBusyError, HomeError
from infra.local.secrets import SecretStore

ROOT = Path(__file__).resolve().parents[2]
"""The project: where `services`, `shared` and `infra` are."""

_INSTALLED = frozenset(["site-packages", "dist-packages"])

# sockaddr_un.sun_path holds 108 bytes on Linux and 104 on macOS, the final zero included.
_LONGEST_SOCKET = 103
_SOCKET_NAME = "postgres/.s.PGSQL.5432"


class Home:
    """Paths and small files of one stack."""

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        """
        Args:
            root: the project whose services run.
        """
        self.root = root
        self.folder = folder.absolute()
        self.postgres = self.folder / "postgres"
        self.redis = self.folder / "redis"
        self.blobs = self.folder / "blobs"
        self.vectors = self.folder / "vectors"
        self.models = self.folder / "models"
        self.dev_json = self.folder / "dev.json"
        self.ports_json = self.folder / "ports.json"
        self.secrets = SecretStore(self.folder / "secrets")

    @classmethod
    def current(cls, environ: Mapping[str, str], root: Path = ROOT) -> "Home":
        """The folder named by `QUARRY_HOME`, or `.quarry` in the project; of one that is installed as a package,
        in the working directory, since its own belongs to the installer."""
        place = Path.cwd() if root.name in _INSTALLED else root
        return cls(Path(environ["QUARRY_HOME"]) if environ.get("QUARRY_HOME") else place / ".quarry", root)

    def prepare(self) -> None:
        """Make the folders that services write to.

        Raises:
            HomeError: the folder belongs to another user.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.folder.stat().st_uid != os.geteuid():
            raise HomeError(
                f"{self.folder} belongs to another user: run as that user, or set QUARRY_HOME to a folder of your own"
            )
        # Root's PostgreSQL runs as another account, which has to pass through, but not list.
        self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        for folder in (self.redis, self.blobs, self.vectors, self.models):
            folder.mkdir(mode=0o700, exist_ok=True)

    def sockets(self) -> Path:
        """A folder for Unix sockets: `run/`, or a private temporary one when that path is too long for a socket."""
        run = self.folder / "run"
        if len(os.fsencode(run / _SOCKET_NAME)) <= _LONGEST_SOCKET:
            run.mkdir(exist_ok=True)
            run.chmod(0o711 if os.geteuid() == 0 else 0o700)
            return run
        # A link in the home remembers the folder, for the next start and for `migrate` beside a running stack.
        if run.is_symlink() and _is_ours(run.readlink()):
            return run.readlink()
        run.unlink(missing_ok=True)
        made = Path(tempfile.mkdtemp(prefix="quarry-", dir="/tmp"))  # TMPDIR may be long as well
        made.chmod(0o711 if os.geteuid() == 0 else 0o700)
        run.symlink_to(made)
        return made

    def remove_sockets(self) -> None:
        """Remove the temporary folder of sockets, if there is one."""
        run = self.folder / "run"
        if run.is_symlink():
            if _is_ours(run.readlink()):
                shutil.rmtree(run.readlink())
            run.unlink()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder.

        Raises:
            HomeBusyError: another stack does.
        """
        handle = os.open(self.folder / "dev.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(handle, 32).decode("ascii", errors="replace").strip()
                raise HomeBusyError(
                    f"a stack is already running in {self.folder} (process {holder or 'unknown'})"
                ) from error
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode("ascii"))
            yield
        finally:
            os.close(handle)


def _is_ours(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Replace `path` in one step by a file of mode 0600."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
    Path(name).replace(path)


def read_json(path: Path) -> dict[str, object]:
    """The object in `path`; empty when there is no such file.

    Raises:
        HomeError: the file holds no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise HomeError(f"{path} is damaged, delete it: {error}") from error
    if not isinstance(value, dict):
        raise HomeError(f"{path} is damaged, delete it: not an object")
    return value
