"""HTML to plain text: visible text in reading order, headings set off by blank lines."""

import re

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from services.indexing.pipeline.documents import HTML, Extracted
from services.indexing.pipeline.formats.text import clean, clean_title, required

# The extractor forgets which lines were headings. Private-use characters put beside their tags survive it. They go into
# the source because changing the parsed tree takes time quadratic in the number of changes.
_HEADING_START, _HEADING_END = "\ue000", "\ue001"
_MARKS = re.compile(f"[{_HEADING_START}{_HEADING_END}]")
_OPENING_TAG = re.compile(r"<h[1-6](?:\s[^<>]{0,1000})?>", re.IGNORECASE)
_CLOSING_TAG = re.compile(r"</h[1-6]\s*>", re.IGNORECASE)
_EXCESS_NEWLINES = re.compile(r"\n{4,}")
_EXCESS_TABS = re.compile(r"\t{2,}")


def extract(html: str) -> Extracted:
    source = _OPENING_TAG.sub(rf"\g<0>{_HEADING_START}", _MARKS.sub("", html))
    source = _CLOSING_TAG.sub(rf"{_HEADING_END}\g<0>", source)
    tree = HTMLTree.parse(source)
    text = clean(extract_plain_text(tree, skip_elements=["nav"]))
    text = _MARKS.sub("", _set_off_headings(text))
    text = _EXCESS_TABS.sub("\t", _EXCESS_NEWLINES.sub("\n\n\n", text))
    return Extracted(required(text.strip()), HTML, None, clean_title(tree.title))


def _set_off_headings(text: str) -> str:
    """Three newlines before each heading, one after. A regular expression would be quadratic in white space."""
    before, *marked = text.split(_HEADING_START)
    parts = [before]
    for piece in marked:
        heading, end, after = piece.partition(_HEADING_END)
        if end and heading.strip():
            parts[-1] = parts[-1].rstrip()
            parts += ["\n\n\n", heading.strip(), "\n", after.lstrip()]
        else:
            parts.append(piece)
    return "".join(parts)
