"""Source code: a function is a section, located by the names of what it is in."""

from pathlib import Path

import pytest

from services.indexing.pipeline.chunking import chunk
from services.indexing.pipeline.documents import SOURCE_CODE, Extracted
from services.indexing.pipeline.formats import source_code
from services.indexing.pipeline.formats.code_grammars import GRAMMARS
from tests.services.indexing.pipeline.samples import read

SHORT = 'import os\n\nX = 1\n\n\n# Builds it.\n@cached\ndef wall(a):\n    """Granite."""\n    return a\n\n\ny = 2\n'
LONG_CLASS = "\n\nclass Harbour:\n    '''The harbour of the town, and its walls.'''\n\n" + "".join(
    f"    def build_{number}(self):\n        return {'granite + ' * 20}{number}\n\n" for number in range(4)
)


def parts(extracted: Extracted) -> list[tuple[str, int, int]]:
    """Names and lines of each section."""
    found = []
    for one in extracted.structure.sections:
        first = extracted.text.count("\n", 0, one.start) + 1
        found.append(
            (".".join(one.location["headings"]), first, first + extracted.text.count("\n", one.start, one.end))
        )
    return found


def test_a_function_is_a_section_with_what_is_said_about_it(tmp_path: Path) -> None:
    extracted = read(tmp_path, SHORT.encode(), "walls.py")
    assert extracted.content_type == SOURCE_CODE
    assert parts(extracted) == [("wall", 6, 10)]
    chunks = chunk(extracted.text, content_type=SOURCE_CODE, structure=extracted.structure)
    assert [piece.text.splitlines()[0] for piece in chunks] == ["import os", "# Builds it.", "y = 2"]
    assert [piece.location for piece in chunks] == [
        {"lines": (1, 3)},
        {"headings": ["wall"], "lines": (6, 10)},
        {"lines": (13, 13)},
    ]


def test_methods_of_a_long_class_are_sections_that_name_it(tmp_path: Path) -> None:
    extracted = read(tmp_path, LONG_CLASS.encode(), "harbour.py")
    names = ["Harbour", *(f"Harbour.build_{number}" for number in range(4))]
    assert [name for name, _, _ in parts(extracted)] == names
    chunks = chunk(extracted.text, content_type=SOURCE_CODE, structure=extracted.structure)
    assert [piece.context for piece in chunks] == ["", *["Harbour"] * 4]  # the name of a method is shown
    short = "class Harbour:\n    def a(self):\n        pass\n    def b(self):\n        pass\n"
    assert parts(read(tmp_path, short.encode(), "harbour.py")) == [("Harbour", 1, 5)]


CODE = {
    "js": (
        "/** Builds. */\nexport function wall(a) {\n  return a;\n}\n"
        "const build = async (x) => {\n  run(() => {\n  });\n};\n",
        [("wall", 1, 4), ("build", 5, 8)],
    ),
    "ts": (
        "namespace N {\n  export interface Ship {\n    name: string;\n  }\n"
        "  class A {\n    run(): void {\n    }\n  }\n}",
        [("N.Ship", 1, 4), ("N.A.run", 5, 9)],
    ),
    "tsx": ("function Wall(props: P) {\n  return <div>granite</div>;\n}", [("Wall", 1, 3)]),
    "java": (
        "package a;\n@Deprecated\npublic class Harbour<T> {\n  int wall(int a) {\n    return a;\n  }\n  int n;\n}\n",
        [("Harbour.wall", 2, 8)],
    ),
    "go": (
        "package a\n\n// Wall is.\ntype Wall struct {\n\tn int\n}\n\n"
        "func (w *Wall) Len() (int, error) {\n\treturn w.n, nil\n}",
        [("Wall", 3, 6), ("Len", 8, 10)],
    ),
    "rs": (
        "#[derive(Debug)]\nstruct Wall {\n    n: u8,\n}\n"
        "impl fmt::Display for Wall<T> {\n    fn fmt(&self) {\n    }\n}",
        [("Wall", 1, 4), ("Wall<T>.fmt", 5, 8)],
    ),
    "cpp": (
        "template <typename T>\nclass Wall {\n  int len() const {\n    return 1;\n  }\n};\n"
        "int *a::Wall::build(int a)\n{\n  return 0;\n}\nconst T& get()\n{\n}\n",
        [("Wall.len", 1, 6), ("a::Wall::build", 7, 10), ("get", 11, 13)],
    ),
    "c": (
        "static char *name(struct x *a)\n{\n  return 0;\n}\nstruct wall {\n  int n;\n};",
        [("name", 1, 4), ("wall", 5, 7)],
    ),
    "cs": (
        "namespace A {\n  public class Wall {\n    public int N {\n      get { return 1; }\n    }\n  }\n}",
        [("A.Wall.N", 1, 7)],
    ),
    "rb": (
        "module A\n  class Wall < B\n    def build(a)\n      a\n    end\n"
        "    def self.make\n      1\n    end\n  end\nend",
        [("A.Wall.build", 1, 5), ("A.Wall.make", 6, 10)],
    ),
    "php": (
        "<?php\nclass Wall {\n  public function build() {\n    return 1;\n  }\n}\nfunction f() {\n}",
        [("Wall.build", 2, 6), ("f", 7, 8)],
    ),
}


@pytest.mark.parametrize("suffix", CODE)
def test_languages_are_told_by_the_names_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(source_code, "_SHORT", 0)
    written, expected = CODE[suffix]
    assert parts(read(tmp_path, written.encode(), f"Wall.{suffix.upper()}")) == expected


def test_code_of_an_unknown_language_and_code_that_is_none_have_no_sections(tmp_path: Path) -> None:
    for name, written in (("a.zig", "fn a() void {\n}\n"), ("a.py", "def (:\n  granite\n"), ("a.rs", "granite\n" * 9)):
        assert parts(read(tmp_path, written.encode(), name)) == []


@pytest.mark.parametrize(
    "written",
    [
        "{\n" * 20_000,
        "f(\n" * 20_000,
        "a<\n" * 20_000,
        "def f(\n):\n  pass\n" * 101,
        "x = 1\n" * (source_code._MOST_CHARACTERS // 6 + 1) + "def f():\n  pass\n",
        "def f(): return 1\n" * 1000,
        "'\"if class]:\n" * 5000,
    ],
)
@pytest.mark.parametrize("suffix", [".py", ".ts", ".cpp"])
def test_code_that_nobody_wrote_is_read_without_sections(
    monkeypatch: pytest.MonkeyPatch, written: str, suffix: str
) -> None:
    monkeypatch.setattr(source_code, "_MOST_DEFINITIONS", 100)
    extracted = source_code.extract(written, suffix)
    assert extracted.text.startswith(written[:4])
    assert len(extracted.structure.sections) < 10


def test_what_takes_many_steps_is_not_parsed_to_the_end() -> None:
    grammar = GRAMMARS[".cpp"]
    assert grammar.parsed(b"a<" * 20_000) is None
    assert grammar.parsed(b"int a() {\n  return 1;\n}\n" * 2000) is not None


def test_definitions_within_each_other_without_end_are_cut_off() -> None:
    deep = "".join(f"{' ' * depth}def f{depth}(\n{' ' * depth}):\n" for depth in range(300))
    names = [name for name, _, _ in parts(source_code.extract(deep, ".py"))]
    assert max(name.count(".") for name in names) < 10
