"""Decodes text of unknown encoding, and normalises every extracted text."""

import codecs
import re
import unicodedata

import charset_normalizer

from services.indexing.pipeline.documents import MARKDOWN, PLAIN_TEXT, Extracted
from services.indexing.pipeline.errors import EmptyDocument, UnsupportedContentType

_TITLE_CHARACTERS = 300

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Encodings found by their marks or zero bytes, and those no document is written in: guessing them turns short Western
# texts into Chinese.
_NEVER_GUESSED = ["utf_7", "utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be"]
_NEVER_GUESSED += ["cp037", "cp500", "cp1026", "cp1140", "cp273", "cp424", "cp875"]

_LINE_END = re.compile("\r\n|[\r\x85\u2028\u2029]")
_BLANK_LINE_CONTROL = re.compile("[\x0b\x0c]")
# Control characters, surrogates and noncharacters cannot be stored or sent; soft hyphens, zero-width spaces and
# byte-order marks would hide a word from an exact search.
_UNWANTED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u200b\ufeff\ufffe\uffff\ud800-\udfff]")
_BINARY_CONTROL = re.compile("[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f]")
_MAX_CONTROL_SHARE = 0.01

_META_CHARSET = re.compile(rb"<meta[^>]{1,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.\-]{2,40})", re.IGNORECASE)
_MARKDOWN_TITLE = re.compile(r"^#[ \t]+(\S.*)$", re.MULTILINE)


def decode(data: bytes) -> str:
    """Decode text of unknown encoding: byte-order mark, zero bytes, UTF-8, HTML's declaration, then statistics.

    Raises:
        UnsupportedContentType: The bytes are not text.
    """
    text = _decode(data)
    if len(_BINARY_CONTROL.findall(text[:1_000_000])) > _MAX_CONTROL_SHARE * min(len(text), 1_000_000):
        raise UnsupportedContentType(detail="control characters")
    return text


def clean(text: str) -> str:
    """Bring text into the form `Extracted` promises, except for the white space at its ends."""
    text = _LINE_END.sub("\n", text)
    text = _BLANK_LINE_CONTROL.sub("\n\n", text)
    return unicodedata.normalize("NFC", _UNWANTED.sub("", text))


def clean_title(title: str | None) -> str | None:
    return " ".join(clean(title or "").split())[:_TITLE_CHARACTERS] or None


def extract_plain(decoded: str) -> Extracted:
    return Extracted(required(clean(decoded).strip()), PLAIN_TEXT, None, None)


def extract_markdown(decoded: str) -> Extracted:
    text = required(clean(decoded).strip("\n").rstrip())
    heading = _MARKDOWN_TITLE.search(text[:4096])
    return Extracted(text, MARKDOWN, None, clean_title(heading and heading[1].rstrip("# \t")))


def required(text: str, kind: str = "") -> str:
    if not text or text.isspace():
        raise EmptyDocument(kind)
    return text


def _decode(data: bytes) -> str:
    encoding = _marked_encoding(data) or _zero_byte_encoding(data)
    if encoding:
        return _strictly(data, encoding)
    if b"\0" in data[:8192]:
        raise UnsupportedContentType(detail="zero bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _declared_by_html(data) or _damaged_utf8(data) or _guessed(data)


def _marked_encoding(data: bytes) -> str | None:
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS if data.startswith(mark)), None)


def _zero_byte_encoding(data: bytes) -> str | None:
    """UTF-16 without a mark: in most scripts' text every other byte of spaces, digits and line ends is zero."""
    sample = data[: min(len(data), 8192) // 2 * 2]
    if not sample:
        return None
    even, odd = (sample[first::2].count(0) / (len(sample) / 2) for first in (0, 1))
    if odd > 0.1 and even < 0.01:
        return "utf-16-le"
    return "utf-16-be" if even > 0.1 and odd < 0.01 else None


def _strictly(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnsupportedContentType(detail=f"not {encoding}") from error


def _declared_by_html(data: bytes) -> str | None:
    meta = _META_CHARSET.search(data[:2048])
    if meta is None:
        return None
    name = meta[1].decode("ascii").lower()
    try:
        # Browsers read Latin-1 as Windows-1252 (WHATWG Encoding), and so do the authors who declare it.
        return data.decode("cp1252" if name in {"iso-8859-1", "latin1", "us-ascii"} else name, errors="replace")
    except LookupError:
        return None


def _damaged_utf8(data: bytes) -> str | None:
    """UTF-8 with a few broken bytes is still UTF-8: another encoding would spoil every accented letter."""
    text = data.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    intact = sum(1 for character in text[:1_000_000] if character > "\x7f") - broken
    return text if broken * 10 <= intact else None


def _guessed(data: bytes) -> str:
    matches = charset_normalizer.from_bytes(data, cp_exclusion=_NEVER_GUESSED)
    best = matches.best()
    if best is None:
        raise UnsupportedContentType(detail="no known encoding")
    for match in matches:
        # Short texts fit several Western code pages equally well; the most used of them wins.
        if "cp1252" in {match.encoding, *match.could_be_from_charset}:
            if match.chaos <= best.chaos and match.coherence >= best.coherence:
                return data.decode("cp1252", errors="replace")
            break
    return str(best)
