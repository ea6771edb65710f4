"""Equations (Office Math, ECMA-376 part 1, section 22.1) as a line of text, much as UnicodeMath writes them.

    a^2+b^2=c^2     (n+1)/2     ∑_(n=1)^∞ x_n     √(x+1)     lim_(n→∞) f(n)

Words and symbols keep their order; brackets are added where an operand is longer than a name or a number.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from lxml import etree

from services.indexing.pipeline.formats.xml_reading import names

# Deeper ones are read as text without structure.
_DEEPEST = 40
_SIMPLE = re.compile(r"[^\W_]*|\W")
_IN_BRACKETS = re.compile(r"\([^()]*\)")
# Properties, and text that has been deleted or moved away.
_SKIPPED = re.compile(r"m:\w+Pr|w:(?:rPr|del|moveFrom)")
_TEXT = frozenset({"m:t", "w:t"})
_INLINE = MappingProxyType({"w:tab": " ", "w:br": "\n", "w:cr": "\n", "w:noBreakHyphen": "-"})
_INTEGRAL = "∫"
_CIRCUMFLEX = "\u0302"

_Operands = Mapping[str, list[str]]


def linear(equation: etree._Element) -> str:
    """The text of `m:oMath`."""
    return _content(equation, 0).strip()


def _content(element: etree._Element, depth: int) -> str:
    if depth > _DEEPEST:
        return "".join(inner.text or "" for inner in element.iter("{*}t"))
    parts: list[str] = []
    after_structure = False
    for inner in element:
        name = names.short(inner)
        if _SKIPPED.fullmatch(name):
            continue
        is_structure = name in _STRUCTURES
        part = (inner.text or "") if name in _TEXT else _INLINE.get(name) or _structure(inner, name, depth + 1)
        if (after_structure or name == "m:func") and parts and _run_together(parts[-1], part):
            parts.append(" ")
        parts.append(part)
        after_structure = is_structure
    return "".join(parts)


def _run_together(before: str, after: str) -> bool:
    """Whether two names or numbers would look like one."""
    return before[-1:].isalnum() and after[:1].isalnum()


def _structure(element: etree._Element, name: str, depth: int) -> str:
    write = _STRUCTURES.get(name)
    if write is None:
        return _content(element, depth)
    operands: dict[str, list[str]] = {}
    for inner in element:
        operand = names.short(inner)
        if not _SKIPPED.fullmatch(operand):
            read = _structure(inner, operand, depth + 1) if operand in _STRUCTURES else _content(inner, depth + 1)
            operands.setdefault(operand, []).append(read)
    properties = names.child(element, f"{name}Pr")
    return write(operands, element if properties is None else properties)


def _bracketed(operand: str) -> str:
    operand = operand.strip()
    return operand if _SIMPLE.fullmatch(operand) or _IN_BRACKETS.fullmatch(operand) else f"({operand})"


def _one(operands: _Operands, name: str) -> str:
    return "".join(operands.get(name, ()))


def _script(operands: _Operands, name: str, mark: str) -> str:
    operand = _one(operands, name).strip()
    return operand and mark + _bracketed(operand)


def _character(properties: etree._Element, name: str, otherwise: str) -> str:
    found = names.child(properties, name)
    return otherwise if found is None else names.attribute(found, "m:val") or ""


def _scripts(operands: _Operands, _: etree._Element) -> str:
    base = _one(operands, "m:e").strip()
    return _bracketed(base) + _script(operands, "m:sub", "_") + _script(operands, "m:sup", "^")


def _scripts_before(operands: _Operands, _: etree._Element) -> str:
    return _script(operands, "m:sub", "_") + _script(operands, "m:sup", "^") + _one(operands, "m:e")


def _fraction(operands: _Operands, properties: etree._Element) -> str:
    without_bar = _character(properties, "m:type", "") == "noBar"
    bar = "¦" if without_bar else "/"
    return _bracketed(_one(operands, "m:num")) + bar + _bracketed(_one(operands, "m:den"))


def _radical(operands: _Operands, _: etree._Element) -> str:
    degree = _one(operands, "m:deg").strip()
    return f"{degree and _bracketed(degree)}√({_one(operands, 'm:e').strip()})"


def _delimited(operands: _Operands, properties: etree._Element) -> str:
    opening, closing = _character(properties, "m:begChr", "("), _character(properties, "m:endChr", ")")
    return opening + _character(properties, "m:sepChr", "|").join(operands.get("m:e", ())) + closing


def _large_operator(operands: _Operands, properties: etree._Element) -> str:
    operator = _character(properties, "m:chr", _INTEGRAL)
    return f"{operator}{_script(operands, 'm:sub', '_')}{_script(operands, 'm:sup', '^')} {_one(operands, 'm:e')}"


def _function(operands: _Operands, _: etree._Element) -> str:
    name, argument = _one(operands, "m:fName").strip(), _one(operands, "m:e")
    return name + argument if name.isalpha() and argument.startswith(("(", "[", "{")) else f"{name} {argument}"


def _limit(mark: str) -> Callable[[_Operands, etree._Element], str]:
    return lambda operands, _: _one(operands, "m:e") + _script(operands, "m:lim", mark)


def _accented(operands: _Operands, properties: etree._Element) -> str:
    base = _one(operands, "m:e")
    # A mark over several characters would be shown over the last of them.
    return base + _character(properties, "m:chr", _CIRCUMFLEX) if len(base.strip()) == 1 else base


def _phantom(operands: _Operands, properties: etree._Element) -> str:
    shown = names.child(properties, "m:show") is None or names.is_on(properties, "m:show")
    return _one(operands, "m:e") if shown else ""


def _rows(separator: str) -> Callable[[_Operands, etree._Element], str]:
    return lambda operands, _: separator.join(row for rows in operands.values() for row in rows)


_STRUCTURES: Mapping[str, Callable[[_Operands, etree._Element], str]] = MappingProxyType(
    {
        "m:sSup": _scripts,
        "m:sSub": _scripts,
        "m:sSubSup": _scripts,
        "m:sPre": _scripts_before,
        "m:f": _fraction,
        "m:rad": _radical,
        "m:d": _delimited,
        "m:nary": _large_operator,
        "m:func": _function,
        "m:limLow": _limit("_"),
        "m:limUpp": _limit("^"),
        "m:acc": _accented,
        "m:phant": _phantom,
        "m:eqArr": _rows("\n"),
        "m:m": _rows("; "),
        "m:mr": _rows(" "),
    }
)
