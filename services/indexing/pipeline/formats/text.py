"""Decodes text of unknown encoding, and normalises every extracted text."""

import codecs
import re
import unicodedata
from collections.abc import Iterator

from services.indexing.pipeline.documents import MARKDOWN, PLAIN_TEXT, Extracted, Heading, Structure, Table
from services.indexing.pipeline.errors import EmptyDocument, UnsupportedContentType
from services.indexing.pipeline.formats import charset_detection, encoding_labels

_TITLE_CHARACTERS = 300
_TITLE_LINE = 200

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LINE_END = re.compile("\r\n|[\r\x85\u2028\u2029]")
_BLANK_LINE_CONTROL = re.compile("[\x0b\x0c]")
# Control characters, surrogates and noncharacters cannot be stored or sent; soft hyphens, zero-width spaces and
# byte-order marks would hide a word from an exact search.
_UNWANTED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u200b\ufeff\ufffe\uffff\ud800-\udfff]")
# Padding counts once. Separators of records and a damaged byte here and there are no reason to refuse a text; whatever
# is compressed or holds numbers has more.
_CONTROL = re.compile("\x00+|[\x01-\x07\x0e-\x1a\x1c-\x1f\x7f]")
_MAX_CONTROL_SHARE = 0.05
_MAX_ODD_SHARE = 0.1
_TOLERATED = 3
_MEASURED = 1_000_000
_MEASURED_ODDITIES = 20_000
_SAMPLE_BYTES = 8192
_PROBE_BYTES = 64 * 1024

_DASHES = frozenset(" :|-\n")
HEADER_CHARACTERS = 300
_MARKDOWN_LINE = re.compile(r"^ {0,3}(?:(?P<fence>```+|~~~+)|(?P<signs>#{1,6})[ \t]+(?P<heading>\S.*)$)", re.MULTILINE)


def decode(data: bytes, charset: str = "") -> str:
    """Decode text: by its byte-order mark, its zero bytes, as UTF-8, in a declared encoding, by statistics.

    A declared one, by `charset` or within an HTML or XML document, counts if the bytes make sense in it. Damaged
    characters become U+FFFD.

    Raises:
        UnsupportedContentType: The bytes are not text.
    """
    text = _decode(data, charset)
    if _has_many_controls(text):
        raise UnsupportedContentType("binary", detail="control characters")
    return text


def require_text(content: memoryview) -> None:
    """Tell what is not text by samples of it, before more is done with a large file.

    Raises:
        UnsupportedContentType: Most of the samples are not text.
    """
    mark = next((mark for mark, _ in _BYTE_ORDER_MARKS if content[: len(mark)] == mark), b"")
    middle = len(content) // 8 * 4
    refused = []
    for begin in (0, middle, max(len(content) - _PROBE_BYTES, 0) // 4 * 4):
        try:
            decode(mark + bytes(content[begin : begin + _PROBE_BYTES]))
        except UnsupportedContentType as error:
            refused.append(error)
    if len(refused) > 1:
        raise refused[0]


def clean(text: str) -> str:
    """Bring text into the form `Extracted` promises, except for the white space at its ends."""
    text = _LINE_END.sub("\n", text)
    text = _BLANK_LINE_CONTROL.sub("\n\n", text)
    return unicodedata.normalize("NFC", _UNWANTED.sub("", text))


def clean_title(title: str | None) -> str | None:
    return " ".join(clean(title or "").split())[:_TITLE_CHARACTERS] or None


def extract_plain(decoded: str) -> Extracted:
    text = required(clean(decoded).strip())
    return Extracted(text, PLAIN_TEXT, None, _title_line(text))


def _title_line(text: str) -> str | None:
    """A first line that stands alone above the rest, as titles of plain text do; none that salutes or announces."""
    line, _, rest = text.partition("\n")
    alone = rest.partition("\n")[0].isspace() or rest.startswith("\n")
    is_title = alone and len(line) <= _TITLE_LINE and any(map(str.isalpha, line)) and line.rstrip()[-1] not in ",;:"
    return clean_title(line) if is_title else None


def extract_markdown(decoded: str) -> Extracted:
    text = required(clean(decoded).strip("\n").rstrip())
    headings = tuple(_markdown_headings(text))
    title = next((heading.text for heading in headings if heading.level == 1 and heading.start < 4096), None)
    return Extracted(
        text, MARKDOWN, None, clean_title(title), structure=Structure((), tuple(_markdown_tables(text)), headings)
    )


def _markdown_headings(text: str) -> Iterator[Heading]:
    """Those marked by number signs, outside blocks of code."""
    fence = ""
    for found in _MARKDOWN_LINE.finditer(text):
        if found["fence"]:
            fence = "" if fence and found["fence"].startswith(fence) else fence or found["fence"]
        elif not fence:
            yield Heading(found.start("signs"), len(found["signs"]), found["heading"].rstrip("# \t")[:120])


def _markdown_tables(text: str) -> Iterator[Table]:
    """Tables as GitHub's specification has them: a line of names, one of dashes, then rows."""
    above, start, header, begun = "", 0, "", 0
    for line in text.splitlines(keepends=True):
        if header and "|" not in line:
            yield Table(begun, start, header)
            header = ""
        elif not header and "|" in above and "--" in line and _DASHES.issuperset(line):
            header = "\t".join(cell.strip() for cell in above.strip().strip("|").split("|"))[:HEADER_CHARACTERS]
            begun = start - len(above)
        above = line
        start += len(line)
    if header:
        yield Table(begun, start, header)


def required(text: str, kind: str = "") -> str:
    if not text or text.isspace():
        raise EmptyDocument(kind)
    return text


def _decode(data: bytes, charset: str) -> str:
    declared = encoding_labels.codec(charset)
    encoding = _marked_encoding(data) or _zero_byte_encoding(data, declared)
    if encoding:
        return _sensible(data.decode(encoding, errors="replace").removeprefix("\ufeff"))
    # What can be read as ASCII so far is in no encoding of two or four bytes.
    named = [declared, encoding_labels.codec(encoding_labels.declared_within(data))]
    usable = [encoding for encoding in named if encoding and encoding not in encoding_labels.WIDE]
    if data.isascii():
        switching = [encoding for encoding in usable if encoding in encoding_labels.SEVEN_BITS]
        switching += [encoding for encoding in [encoding_labels.seven_bit_codec(data)] if encoding]
        return _first_plausible(data, switching) or data.decode("ascii")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end == len(data) and error.end - error.start > 1:
            # Cut within its last character.
            return data.decode("utf-8", errors="replace")
        return _damaged_utf8(data) or _first_plausible(data, usable) or _guessed(data)


def _marked_encoding(data: bytes) -> str | None:
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS if data.startswith(mark)), None)


def _zero_byte_encoding(data: bytes, declared: str | None) -> str | None:
    """UTF-32 or UTF-16 without a mark: in most scripts' text spaces, digits and line ends have zero bytes."""
    sample = data[: min(len(data) - len(data) % 2, _SAMPLE_BYTES)]
    if declared in encoding_labels.WIDE and charset_detection.is_plausible(sample.decode(declared, errors="replace")):
        return declared
    if b"\0" not in sample:
        return None
    whole = sample[: len(sample) // 4 * 4]
    for encoding, zero in (("utf-32-le", 3), ("utf-32-be", 0)):
        if whole and not any(whole[zero::4]) and _decodes(whole, encoding):
            return encoding
    even, odd = (sample[first::2].count(0) / (len(sample) / 2) for first in (0, 1))
    for encoding, zeros, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if others < 0.01 and (zeros > 0.4 or (zeros > 0 and _is_wide(sample, encoding))):
            return encoding
    return None


def _is_wide(sample: bytes, encoding: str) -> bool:
    """Few zero bytes: a script of two bytes a character, unless the other bytes make text by themselves."""
    others = sample.replace(b"\0", b"")
    if _decodes(others, "utf-8") and not _has_many_controls(others.decode()):
        return False
    text = sample.decode(encoding, errors="replace")
    return charset_detection.oddities(text) <= 0.01 * len(text) and any(space in text for space in " \n\u3000")


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _first_plausible(data: bytes, encodings: list[str]) -> str | None:
    sample = charset_detection.telling_part(data)
    for encoding in encodings:
        if charset_detection.is_plausible(sample.decode(encoding, errors="replace")):
            return data.decode(encoding, errors="replace")
    return None


def _damaged_utf8(data: bytes) -> str | None:
    """UTF-8 with a few broken bytes is still UTF-8: another encoding would spoil every accented letter."""
    text = data.decode("utf-8", errors="replace")
    broken = text.count("\ufffd") - data.count(b"\xef\xbf\xbd")
    # Sequences of several bytes that fit are rare in other encodings, the longer the rarer.
    intact = text[:_MEASURED].replace("\ufffd", "")
    return text if broken * 3 <= len(intact.encode()) - len(intact) else None


def _guessed(data: bytes) -> str:
    if _has_many_controls(data[:_PROBE_BYTES].decode("latin-1")):
        raise UnsupportedContentType("binary", detail="control characters")
    return _sensible(data.decode(charset_detection.guessed_codec(data), errors="replace"))


def _sensible(text: str) -> str:
    measured = text[:_MEASURED_ODDITIES]
    if charset_detection.oddities(measured) > min(_TOLERATED, len(measured) // 4) + _MAX_ODD_SHARE * len(measured):
        raise UnsupportedContentType("binary", detail="no known encoding")
    return text


def _has_many_controls(text: str) -> bool:
    measured = text[:_MEASURED]
    return len(_CONTROL.findall(measured)) > _TOLERATED + _MAX_CONTROL_SHARE * (len(measured) - measured.count("\0"))
