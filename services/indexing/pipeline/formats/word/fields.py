"""Fields (ECMA-376 part 1, 17.16): what a paragraph shows of them is their result, not their instruction.

A few kinds have no result: what Word shows of them is in the instruction.
"""

import re
from dataclasses import dataclass, field

from lxml import etree

from services.indexing.pipeline.formats.xml_reading import names

_BUTTON = re.compile(r"\s*(?:MACROBUTTON|GOTOBUTTON)\s+\S+\s+(?P<shown>.+)", re.IGNORECASE | re.DOTALL)
_EQUATION = re.compile(r"\s*EQ\s+(?P<shown>.+)", re.IGNORECASE | re.DOTALL)
_SWITCH = re.compile(r"\\\*\s*(?:\"[^\"]*\"|\w+)|\\[a-z]+[ ]?\d*", re.IGNORECASE)


@dataclass(slots=True)
class Fields:
    """The fields that begin in a paragraph, the innermost last: their instructions, None once the result has begun."""

    _open: list[list[str] | None] = field(default_factory=list)
    _instructions: int = 0

    @property
    def hide_text(self) -> bool:
        """Whether text now is the result of a field in the instruction of another."""
        return self._instructions > bool(self._open and self._open[-1] is not None)

    def mark(self, kind: str | None) -> str:
        """Read a `w:fldChar`. What is shown in its place: at the end of a field without a result, its instruction."""
        match kind:
            case "begin":
                self._open.append([])
                self._instructions += 1
            case "separate" if self._open and self._open[-1] is not None:
                self._open[-1] = None
                self._instructions -= 1
            case "end" if self._open and (instruction := self._open.pop()) is not None:
                self._instructions -= 1
                return _shown("".join(instruction))
        return ""

    def instruct(self, text: str) -> None:
        if self._open and (instruction := self._open[-1]) is not None:
            instruction.append(text)


def chosen(form_field: etree._Element) -> str:
    """What a drop-down list or check box (`w:ffData`) shows; text fields have a result instead."""
    box, entries = names.child(form_field, "w:checkBox"), names.child(form_field, "w:ddList")
    if box is not None:
        told = names.child(box, "w:checked")
        checked = names.is_on(box, "w:default") if told is None else names.is_on(box, "w:checked")
        return "☒" if checked else "☐"
    if entries is None:
        return ""
    place = names.value(entries, "w:result") or names.value(entries, "w:default") or "0"
    texts = [names.attribute(entry, "w:val") or "" for entry in entries.iterfind("{*}listEntry")]
    return next((text for number, text in enumerate(texts) if str(number) == place), "")


def _shown(instruction: str) -> str:
    if button := _BUTTON.match(instruction):
        return button["shown"].strip()
    if equation := _EQUATION.match(instruction):
        return _SWITCH.sub("", equation["shown"]).strip()
    return ""
