"""The state folder: private, held by one, its secrets and ports the same at every start."""

import base64
import os
import socket
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.local.errors import HomeError, SecretsError
from infra.local.home import ROOT, Home, read_json, write_json
from infra.local.ports import HOST, allocate, any_free, is_free
from infra.local.secrets import SecretStore, random_key


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_is_dot_quarry_of_the_project_or_what_the_environment_names(folder: Path) -> None:
    assert Home.current({}).folder == ROOT / ".quarry"
    assert Home.current({"QUARRY_HOME": ""}, folder).folder == folder / ".quarry"
    assert Home.current({"QUARRY_HOME": str(folder / "other")}).folder == folder / "other"
    assert (ROOT / "pyproject.toml").exists()


def test_an_installed_project_keeps_its_folder_where_it_was_called(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    home = Home.current({}, Path("/opt/venv/lib/python3.13/site-packages"))
    assert home.folder == folder / ".quarry"
    assert home.root == Path("/opt/venv/lib/python3.13/site-packages")


def test_nobody_else_may_look_into_the_folder(folder: Path) -> None:
    home = Home(folder / "home")
    home.prepare()
    assert mode(home.folder) & 0o066 == 0
    assert {mode(path) for path in (home.redis, home.blobs, home.vectors, home.models)} == {0o700}
    home.secrets.get("one")
    assert mode(home.secrets.folder) == 0o700
    write_json(home.dev_json, {"api_key": "x"})
    assert mode(home.dev_json) == 0o600


def test_a_folder_of_somebody_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(HomeError, match="belongs to another user"):
        Home(folder).prepare()


def test_secrets_are_made_once_and_readable_by_their_owner_alone(folder: Path) -> None:
    store = SecretStore(folder / "secrets")
    first = store.get("one")
    assert len(first) >= 43
    assert store.get("one") == SecretStore(folder / "secrets").get("one") == first
    assert store.get("two") != first
    assert len(base64.urlsafe_b64decode(store.get("key", random_key))) == 32
    assert {mode(store.path(name)) for name in ("one", "two", "key")} == {0o600}


def test_whoever_comes_second_gets_the_secret_of_the_first(folder: Path) -> None:
    store = SecretStore(folder)
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: store.get("one"), range(64)))) == 1
    assert [path.name for path in folder.iterdir()] == ["one"]


def test_a_secret_that_others_can_read_is_refused(folder: Path) -> None:
    store = SecretStore(folder)
    store.get("one")
    store.path("one").chmod(0o640)
    with pytest.raises(SecretsError, match="readable by others"):
        store.get("one")


def test_a_derived_secret_is_replaced_in_one_step(folder: Path) -> None:
    store = SecretStore(folder)
    path = store.put("address", "a")
    inode = path.stat().st_ino
    assert store.put("address", "a").stat().st_ino == inode
    assert store.put("address", "b").read_text() == "b"
    assert mode(path) == 0o600


def test_a_damaged_file_is_named(folder: Path) -> None:
    assert read_json(folder / "missing") == {}
    for text in ("{", "[]"):
        (folder / "file").write_text(text)
        with pytest.raises(HomeError, match="is damaged, delete it"):
            read_json(folder / "file")


def test_ports_are_remembered_while_they_are_free(folder: Path) -> None:
    memory = folder / "ports.json"
    wanted = {"gateway": any_free(), "identity": None, "projects": None}
    first = allocate(memory, wanted)
    assert first["gateway"] == wanted["gateway"]
    assert len(set(first.values())) == 3
    assert allocate(memory, wanted) == first
    with socket.socket() as taken:
        taken.bind((HOST, first["identity"]))
        taken.listen()
        assert not is_free(first["identity"])
        second = allocate(memory, wanted)
    assert second["identity"] not in first.values()
    assert {**second, "identity": first["identity"]} == first


def test_a_wanted_port_that_is_taken_is_replaced_by_the_one_used_last_time(folder: Path) -> None:
    memory = folder / "ports.json"
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        first = allocate(memory, {"gateway": port})
        assert first["gateway"] != port
        assert allocate(memory, {"gateway": port}) == first
    assert allocate(memory, {"gateway": port}) == {"gateway": port}


def test_two_names_never_share_a_port(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = any_free(), any_free()
    answers = iter([one, one, other])

    class Probe:
        def __enter__(self) -> "Probe":
            return self

        def __exit__(self, *_: object) -> None: ...

        def bind(self, _: object) -> None: ...

        def getsockname(self) -> tuple[str, int]:
            return HOST, next(answers)

    monkeypatch.setattr(socket, "socket", lambda *_: Probe())
    assert allocate(folder / "ports.json", {"a": None, "b": None}) == {"a": one, "b": other}


def test_a_folder_for_sockets_that_is_not_ours_is_not_used(folder: Path, new_home: Callable[[], Home]) -> None:
    deep = Home(folder / ("deep" * 20))
    deep.prepare()
    (deep.folder / "run").symlink_to("/")
    if os.geteuid() != 0:
        assert deep.sockets() != Path("/")
    file = folder / "file"
    file.touch()
    (deep.folder / "run").unlink()
    (deep.folder / "run").symlink_to(file)
    assert deep.sockets() != file
    deep.remove_sockets()
    assert file.exists()
    deep.remove_sockets()
