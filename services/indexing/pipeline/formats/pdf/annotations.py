"""Form fields and annotations: what they show is drawn into the page, what they hold without showing it is returned.

pdfium draws them ("flattening") from their appearances. Fields whose appearance is missing, or spaces the letters out,
are read instead, and so are comments, which appear only when a reader opens them.
"""

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pypdfium2
from pypdfium2 import raw

_MOST_ANNOTATIONS: Final = 5000
_MOST_OPTIONS: Final = 1000
_MOST_OBJECTS: Final = 100
_LONGEST_BYTES: Final = 1_000_000

_HIDDEN: Final = raw.FPDF_ANNOT_FLAG_HIDDEN | raw.FPDF_ANNOT_FLAG_NOVIEW
_PASSWORD: Final = 1 << 13
_COMB: Final = 1 << 24
_WITHOUT_TEXT: Final = frozenset({raw.FPDF_ANNOT_LINK, raw.FPDF_ANNOT_POPUP})
_BOXES: Final = frozenset({raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON})
_CHOICES: Final = frozenset({raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX})
_SIGNS: Final = re.compile(r"[\W_]+")


@dataclass(slots=True)
class Held:
    """What annotations hold: texts that are not drawn, and texts that may be. `drawn`: the page has changed."""

    undrawn: list[str] = field(default_factory=list)
    perhaps_drawn: list[str] = field(default_factory=list)
    drawn: bool = False

    def missing_from(self, text: str) -> Iterator[str]:
        """The texts that the page's text lacks, without regard to spaces and other signs (1234.5 is in $ 1,234.50)."""
        yield from self.undrawn
        squeezed = _SIGNS.sub("", text) if self.perhaps_drawn else ""
        for held in dict.fromkeys(self.perhaps_drawn):
            if _SIGNS.sub("", held) not in squeezed:
                yield held


def draw(page: pypdfium2.PdfPage) -> Held:
    """Draw the annotations of a page that can be seen. The page must be loaded again if it has changed."""
    held = Held()
    visible = False
    count = raw.FPDFPage_GetAnnotCount(page)
    for index in range(min(count, _MOST_ANNOTATIONS)):
        with _annotation(page, index) as annotation:
            if annotation is not None and _is_visible(annotation):
                visible |= _read(annotation, page.formenv, held)
    # The time it takes to draw them grows with the square of their number.
    if visible and count <= _MOST_ANNOTATIONS:
        held.drawn = raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY) == raw.FLATTEN_SUCCESS
    return held


@contextmanager
def _annotation(page: pypdfium2.PdfPage, index: int) -> Iterator[Any]:
    annotation = raw.FPDFPage_GetAnnot(page, index)
    try:
        yield annotation or None
    finally:
        if annotation:
            raw.FPDFPage_CloseAnnot(annotation)


def _is_visible(annotation: Any) -> bool:
    if not raw.FPDFAnnot_GetFlags(annotation) & _HIDDEN:
        return True
    _hide(annotation)
    return False


def _hide(annotation: Any) -> None:
    """Keep it from being drawn, in memory only."""
    raw.FPDFAnnot_SetFlags(annotation, raw.FPDFAnnot_GetFlags(annotation) | raw.FPDF_ANNOT_FLAG_HIDDEN)


def _read(annotation: Any, form: pypdfium2.PdfFormEnv | None, held: Held) -> bool:
    """Take what one annotation holds. Returns whether it has to be drawn."""
    kind = raw.FPDFAnnot_GetSubtype(annotation)
    if kind in _WITHOUT_TEXT:
        return False
    if kind == raw.FPDF_ANNOT_WIDGET:
        return _read_field(annotation, form, held)
    contents = _entry(annotation, b"Contents")
    # The answers to a review ("accepted") are annotations too.
    if contents and not raw.FPDFAnnot_HasKey(annotation, b"StateModel"):
        held.perhaps_drawn.append(contents)
    return bool(raw.FPDFAnnot_HasKey(annotation, b"AP"))


def _read_field(annotation: Any, form: pypdfium2.PdfFormEnv | None, held: Held) -> bool:
    kind = raw.FPDFAnnot_GetFormFieldType(form, annotation) if form else -1
    flags = raw.FPDFAnnot_GetFormFieldFlags(form, annotation) if form else 0
    if kind in _BOXES:
        # Drawn, they are a dingbat.
        _hide(annotation)
        if raw.FPDFAnnot_IsChecked(form, annotation):
            held.perhaps_drawn += _meaningful(_string(raw.FPDFAnnot_GetFormFieldExportValue, form, annotation))
        return False
    if kind == raw.FPDF_FORMFIELD_TEXTFIELD and flags & _PASSWORD:
        _hide(annotation)
        return False
    values = list(_selected(annotation, form)) if kind in _CHOICES else []
    if not values:
        values = [_string(raw.FPDFAnnot_GetFormFieldValue, form, annotation) if form else _entry(annotation, b"V")]
    values = [value for value in values if value]
    spaced_out = kind == raw.FPDF_FORMFIELD_TEXTFIELD and flags & _COMB
    if values and (spaced_out or not _draws_text(annotation)):
        _hide(annotation)
        held.undrawn += values
        return False
    held.perhaps_drawn += values
    return bool(raw.FPDFAnnot_HasKey(annotation, b"AP"))


def _selected(annotation: Any, form: pypdfium2.PdfFormEnv | None) -> Iterator[str]:
    for option in range(min(raw.FPDFAnnot_GetOptionCount(form, annotation), _MOST_OPTIONS)):
        if raw.FPDFAnnot_IsOptionSelected(form, annotation, option):
            yield _string(raw.FPDFAnnot_GetOptionLabel, form, annotation, option)


def _meaningful(value: str) -> list[str]:
    """The value of a checked box, unless it says no more than that."""
    generic = value.lower() in {"on", "off", "yes", "no", "true", "false", "checked"}
    return [value] if sum(map(str.isalpha, value)) > 1 and not generic else []


def _draws_text(annotation: Any) -> bool:
    objects = range(min(raw.FPDFAnnot_GetObjectCount(annotation), _MOST_OBJECTS))
    kinds = (raw.FPDFPageObj_GetType(raw.FPDFAnnot_GetObject(annotation, index)) for index in objects)
    return any(kind in {raw.FPDF_PAGEOBJ_TEXT, raw.FPDF_PAGEOBJ_FORM} for kind in kinds)


def _entry(annotation: Any, key: bytes) -> str:
    return _string(raw.FPDFAnnot_GetStringValue, annotation, key)


def _string(get: Callable[..., int], *arguments: Any) -> str:
    """What a function of pdfium writes into a buffer, in UTF-16, once it has said how much that is."""
    size = get(*arguments, None, 0)
    if not 2 < size <= _LONGEST_BYTES:
        return ""
    buffer = (ctypes.c_ushort * (size // 2))()
    get(*arguments, buffer, size)
    return bytes(buffer).decode("utf-16-le", "ignore").rstrip("\0").replace("\r", "\n").strip()
