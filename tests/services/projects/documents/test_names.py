import pytest

from services.projects.documents.errors import InvalidName
from services.projects.documents.names import MAX_NAME, clean_name


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\report.pdf", "report.pdf"),
        ("folder/", "folder"),
        ("a\x00b\r\nc\x7f.txt", "abc.txt"),
        ("\u202etxt.exe", "txt.exe"),
        ("  spaced .txt ", "spaced .txt"),
        ("e\u0301.txt", "é.txt"),
        (".hidden", ".hidden"),
        ("lone\ud800surrogate", "lonesurrogate"),
        ("x" * 300 + ".docx", "x" * 250 + ".docx"),
        ("x" * 300, "x" * MAX_NAME),
        ("a." + "y" * 300, "a." + "y" * 253),
    ],
)
def test_a_name_keeps_what_can_be_shown(raw: str, clean: str) -> None:
    assert clean_name(raw) == clean


@pytest.mark.parametrize("raw", ["", " ", ".", "..", "a/..", "///", "\x00", "\u202e"])
def test_a_name_of_nothing_is_refused(raw: str) -> None:
    with pytest.raises(InvalidName):
        clean_name(raw)
