"""Source code, with the numbers of its lines. Each function is a section of its own, as far as its language is known.

So is a class with all that is in it, if it is short. What is between functions, or in a longer class beside its
methods, are sections too. A definition on one line belongs to what is around it. A section is located by the names of
the definitions that it is in.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tree_sitter import Node

from services.indexing.pipeline.documents import SOURCE_CODE, Extracted, Section, Structure, Table
from services.indexing.pipeline.formats.code_grammars import GRAMMARS
from services.indexing.pipeline.formats.text import clean, required

# What is longer is seldom written by people.
_MOST_CHARACTERS = 1 << 19
_MOST_DEFINITIONS = 5000
_DEEPEST = 6
_NAME_CHARACTERS = 120
# A short class is one section.
_SHORT = 600
# What is shorter, such as the line that opens or ends a class, belongs to the definition beside it.
_LEAST = 40
# What begins before the definition that it holds.
_AROUND = frozenset(
    {"decorated_definition", "export_statement", "template_declaration", "lexical_declaration", "variable_declarator"}
)
# Lines above a definition that say something about it: comments, decorators, attributes.
_ABOVE = ("#", "//", "/*", "*", "@", "[")


def extract(decoded: str, suffix: str = "") -> Extracted:
    """Read source code; the `suffix` of the file's name tells its language."""
    text = clean(decoded).rstrip()
    first = len(text) - len(text.lstrip("\n"))
    text = required(text[first:])
    starts = array("L", [0])
    place = text.find("\n")
    while place >= 0:
        starts.append(place + 1)
        place = text.find("\n", place + 1)
    numbers = range(first + 1, first + 1 + len(starts))
    table = Table(0, len(text), starts=starts, numbers=numbers, unit="lines")
    sections = tuple(_sections(text, suffix, [*starts, len(text) + 1]))
    return Extracted(text, SOURCE_CODE, None, None, structure=Structure(sections, (table,)))


def warm_up() -> None:
    for suffix in GRAMMARS:
        extract("def wall(\n):\n", suffix)


@dataclass(slots=True)
class _Definition:
    """`first` and `last` are its lines, counted from 0."""

    first: int
    last: int
    name: str
    inner: list["_Definition"] = field(default_factory=list)


def _sections(text: str, suffix: str, starts: Sequence[int]) -> Iterator[Section]:
    """`starts`: where lines begin, the one after the last too."""
    grammar = GRAMMARS.get(suffix)
    if grammar is None or len(text) > _MOST_CHARACTERS:
        return
    tree = grammar.parsed(text.encode())
    found = [] if tree is None else sorted(_definitions(tree.root_node, grammar.definitions))
    if len(found) > _MOST_DEFINITIONS:
        return
    for one in _nested(found, text.split("\n")):
        for first, last, path in _parts(one, (), starts):
            start, end = starts[first], starts[last + 1] - 1
            if text[start:end].strip():
                yield Section(start, end, {"headings": list(path)})


def _definitions(root: Node, kinds: frozenset[str]) -> Iterator[tuple[int, int, str]]:
    """First line, last line negated, and name of definitions: in order, outer ones come before inner ones.

    Nodes on one line are left out, and so are most nodes. A tree is asked for children only: for parents, and for
    matches of patterns, it takes the square of the number of nodes where the source is no code.
    """
    waiting: list[tuple[Node, int, str]] = [(root, 0, "")]
    while waiting:
        node, first, name = waiting.pop()
        if node.type in kinds and (name := name or _name(node)):
            yield first, -node.end_point.row, name
        around = node.type in _AROUND
        given = _name(node) if node.type == "variable_declarator" else ""
        waiting += [
            (child, first if around else child.start_point.row, given)
            for child in node.children
            if (first if around else child.start_point.row) < child.end_point.row
        ]


def _nested(found: Sequence[tuple[int, int, str]], lines: Sequence[str]) -> Sequence[_Definition]:
    """The outermost definitions, with those inside them. Of two that share a line, the first counts."""
    outermost = _Definition(-1, len(lines), "")
    within = [outermost]
    for start, end, name in found:
        first, last = start, -end
        while within[-1].last < first:
            within.pop()
        around = within[-1]
        least = around.inner[-1].last if around.inner else around.first
        if first <= least or last > around.last or len(within) > _DEEPEST:
            continue
        while first - 1 > least and lines[first - 1].lstrip().startswith(_ABOVE):
            first -= 1
        around.inner.append(_Definition(first, last, name))
        within.append(around.inner[-1])
    return outermost.inner


def _name(node: Node) -> str:
    named = node.child_by_field_name("name") or _declared(node) or node.child_by_field_name("type")
    text = (named.text or b"").decode(errors="replace") if named else ""
    return " ".join(text.split())[:_NAME_CHARACTERS]


def _declared(node: Node) -> Node | None:
    """The name in a declaration of C, which is within signs of pointers and parameters."""
    found = None
    while (inner := node.child_by_field_name("declarator")) is not None:
        if inner.type == "reference_declarator" and inner.named_children:
            inner = inner.named_children[-1]
        found = node = inner
    return found


def _parts(
    one: _Definition, around: tuple[str, ...], starts: Sequence[int]
) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """First and last line of each section, with the names of what it is in, outermost first."""
    path, line = (*around, one.name), one.first
    if starts[one.last + 1] - starts[one.first] > _SHORT:
        for inner in one.inner:
            if starts[inner.first] - starts[line] < _LEAST:
                inner.first = line
            elif inner.first > line:
                yield line, inner.first - 1, path
            if inner is one.inner[-1] and starts[one.last + 1] - starts[inner.last + 1] < _LEAST:
                inner.last = one.last
            yield from _parts(inner, path, starts)
            line = inner.last + 1
    if line <= one.last:
        yield line, one.last, path
