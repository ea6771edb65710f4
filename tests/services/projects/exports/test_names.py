import uuid

import pytest

from services.projects.exports.archive import MOST_NAME_BYTES, entry_path, safe_name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("note.txt", "note.txt"),
        ("größe 你好.pdf", "größe 你好.pdf"),
        ("a:b*c?.txt", "a_b_c_.txt"),
        ('"<x>|y".md', "__x__y_.md"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("..\\x", ".._x"),
        ("..", "_"),
        (" . ", "_"),
        ("", "_"),
        ("report. ", "report"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("console.txt", "console.txt"),
        ("a\0b\n", "a_b_"),
        ("\ud800x", "_x"),
    ],
)
def test_a_name_is_one_that_every_file_system_takes(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize("letter", ["a", "ö", "你", "𝔘"])
def test_a_long_name_is_cut_and_keeps_its_ending(letter: str) -> None:
    name = safe_name(letter * 250 + ".docx")
    assert name.endswith(letter + ".docx")
    assert MOST_NAME_BYTES - 4 <= len(name.encode()) <= MOST_NAME_BYTES
    assert len(safe_name("x." + letter * 250).encode()) <= MOST_NAME_BYTES


def test_equal_names_are_in_different_places() -> None:
    project, one, other = (uuid.uuid4() for _ in range(3))
    paths = {entry_path(project, document, version, "a.txt") for document in (one, other) for version in (1, 2)}
    assert len(paths) == 4
    assert all(path.startswith(f"{project}/") and ".." not in path.split("/") for path in paths)
