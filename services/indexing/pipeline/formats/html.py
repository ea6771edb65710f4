"""HTML to plain text: visible text in reading order, headings set off by blank lines, rows of tables a line each.

Of tables within tables, which lay out a page, the innermost count.
"""

import re

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from services.indexing.pipeline.documents import HTML, Extracted, Heading, Structure, Table
from services.indexing.pipeline.formats.text import clean, clean_title, required
from services.indexing.pipeline.formats.text_builder import header_of

# The extractor forgets which lines were headings and tables. Private-use characters put beside their tags survive it.
# They go into the source because changing the parsed tree takes time quadratic in the number of changes.
_HEADING_STARTS = "\ue000\ue001\ue002\ue003\ue004\ue005"  # by level
_HEADING_END = "\ue006"
_NOSCRIPT_START, _NOSCRIPT_END = "\ue007", "\ue008"
_TABLE_START, _TABLE_END = "\ue009", "\ue00a"
_MARKS = re.compile(f"[{_HEADING_STARTS[0]}-{_TABLE_END}]")
_PLACES = re.compile(f"([{_HEADING_STARTS}{_TABLE_START}{_TABLE_END}])")
# The lines that marks have to themselves.
_START_LINE = re.compile(f"(?<![^\n{_TABLE_START}]){_TABLE_START}\n+")
_END_LINE = re.compile(f"\n{_TABLE_END}(?=[\n\t{_TABLE_END}]|\\Z)")
_HEADING_START = re.compile(f"([{_HEADING_STARTS}])")
_OPENING_TAG = re.compile(r"<h([1-6])(?:\s[^<>]{0,1000})?>", re.IGNORECASE)
_CLOSING_TAG = re.compile(r"</h[1-6]\s*>", re.IGNORECASE)
_OPENING_TABLE = re.compile(r"<table(?:\s[^<>]{0,1000})?>", re.IGNORECASE)
_CLOSING_TABLE = re.compile(r"</table\s*>", re.IGNORECASE)
_OPENING_NOSCRIPT = re.compile(r"<noscript(?:\s[^<>]{0,1000})?>", re.IGNORECASE)
_CLOSING_NOSCRIPT = re.compile(r"</noscript\s*>", re.IGNORECASE)
_END_OF_HEAD = re.compile(r"</head\b|<body\b", re.IGNORECASE)
_NAVIGATION = re.compile(r"<nav\b|\brole\s{0,9}=\s{0,9}.?navigation", re.IGNORECASE)
_NAVIGATION_ELEMENTS = ["nav", "[role=navigation]"]
# What the extractor skips although it is shown, or does not set apart from what follows, by what it reads instead.
_READ_AS = {
    "button": "span",
    "dialog": "div",
    "label": "span",
    "legend": "div",
    "optgroup": "div",
    "option": "div",
    "select": "div",
    "summary": "div",
    "textarea": "pre",
}
_MISREAD_TAG = re.compile(rf"<(/?)({'|'.join(_READ_AS)})(?=[\s/>])", re.IGNORECASE)
# Shorter text for readers without scripts asks them to switch these on; longer text is content.
_NOTICE_CHARACTERS = 250
# Less text beside the navigation means that the page is in it, mostly because its end tag is missing.
_LEAST_SHARE = 0.2
_NOSCRIPT = re.compile(f"[{_NOSCRIPT_START}{_NOSCRIPT_END}]")
_HEADING_CHARACTERS = 120
_EXCESS_NEWLINES = re.compile(r"\n{4,}")
_EXCESS_TABS = re.compile(r"\t{2,}")


def extract(html: str) -> Extracted:
    source = _OPENING_TAG.sub(lambda tag: tag[0] + _HEADING_STARTS[int(tag[1]) - 1], _MARKS.sub("", html))
    source = _CLOSING_TAG.sub(rf"{_HEADING_END}\g<0>", source)
    source = _OPENING_TABLE.sub(rf"\g<0>{_TABLE_START}", _CLOSING_TABLE.sub(rf"\g<0>{_TABLE_END}", source))
    source = _MISREAD_TAG.sub(lambda tag: f"<{tag[1]}{_READ_AS[tag[2].lower()]}", _with_marked_noscript(source))
    tree = HTMLTree.parse(source)
    text = _without_notices(clean(_visible_text(tree, source)))
    text = _EXCESS_TABS.sub("\t", _EXCESS_NEWLINES.sub("\n\n\n", _set_off_headings(text)))
    text = _END_LINE.sub(_TABLE_END, _START_LINE.sub(_TABLE_START, text.strip()))
    text, structure = _without_marks(text)
    return Extracted(required(text.rstrip()), HTML, None, clean_title(tree.title), structure=structure)


def _visible_text(tree: HTMLTree, source: str) -> str:
    if not _NAVIGATION.search(source):
        return extract_plain_text(tree)
    everything = extract_plain_text(tree)
    beside = extract_plain_text(tree, skip_elements=_NAVIGATION_ELEMENTS)
    return beside if len(beside) >= _LEAST_SHARE * len(everything) else everything


def _with_marked_noscript(source: str) -> str:
    """Read what is for readers without scripts as markup like any other, between marks.

    The parser would close such an element only where all within is closed, which many pages forget, and so hide the
    rest of the page. In the head there is no text.
    """
    end = _END_OF_HEAD.search(source)
    body = end.start() if end else 0
    head = _without_noscript(source[:body])
    rest = _OPENING_NOSCRIPT.sub(_NOSCRIPT_START, source[body:])
    return head + _CLOSING_NOSCRIPT.sub(_NOSCRIPT_END, rest)


def _without_noscript(head: str) -> str:
    kept, position = [], 0
    while opening := _OPENING_NOSCRIPT.search(head, position):
        closing = _CLOSING_NOSCRIPT.search(head, opening.end())
        if closing is None:
            break
        kept.append(head[position : opening.start()])
        position = closing.end()
    return "".join([*kept, _OPENING_NOSCRIPT.sub("", head[position:])])


def _without_notices(text: str) -> str:
    before, *marked = text.split(_NOSCRIPT_START)
    parts = [before]
    for piece in marked:
        inside, end, after = piece.partition(_NOSCRIPT_END)
        if not end or len(inside.strip()) >= _NOTICE_CHARACTERS:
            parts += [inside, after]
        else:
            parts.append(after.lstrip("\n") if parts[-1].endswith("\n") else after)
    rest = "".join(parts)
    return rest if _MARKS.sub("", rest).strip() else text


def _set_off_headings(text: str) -> str:
    """Three newlines before each heading, one after. A regular expression would be quadratic in white space."""
    before, *marked = _HEADING_START.split(text)
    parts = [before]
    for start, piece in zip(marked[::2], marked[1::2], strict=True):
        heading, end, after = piece.partition(_HEADING_END)
        if end and heading.strip():
            parts[-1] = parts[-1].rstrip()
            parts += ["\n\n\n", start, heading.strip(), "\n", after.lstrip().replace(_HEADING_END, "")]
        else:
            parts.append(piece.replace(_HEADING_END, ""))
    return _NOSCRIPT.sub("", "".join(parts))


def _without_marks(text: str) -> tuple[str, Structure]:
    """The text, and the headings and tables that marks are beside."""
    before, *marked = _PLACES.split(text)
    parts, length = [before], len(before)
    headings, tables = list[Heading](), list[Table]()
    begun: tuple[int, int] | None = None
    for mark, piece in zip(marked[::2], marked[1::2], strict=True):
        if mark == _TABLE_START:
            begun = (length, len(parts))
        elif mark == _TABLE_END:
            if begun is not None:
                start, first = begun
                tables.append(Table(start, length, header_of("".join(parts[first:]))))
            begun = None
        else:
            words = " ".join(piece.partition("\n")[0].split())[:_HEADING_CHARACTERS]
            headings.append(Heading(length, _HEADING_STARTS.index(mark) + 1, words))
        parts.append(piece)
        length += len(piece)
    return "".join(parts), Structure(tables=tuple(tables), headings=tuple(headings))
