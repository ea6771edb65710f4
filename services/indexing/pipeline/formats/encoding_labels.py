"""Names of encodings, and where bytes name their own.

Names are those of the WHATWG Encoding Standard, by which "iso-8859-1" means Windows-1252, "gb2312" GB 18030 and so on:
browsers read them this way, and files are labelled accordingly. Code pages of DOS and the Macintosh are added.
"""

import re
from encodings import normalize_encoding
from encodings.aliases import aliases

from webencodings import lookup

# What reads the most: the encodings of the standard by their names there, others by their names in Python.
_SUPERSETS = {
    "ascii": "cp1252",
    "big5": "big5hkscs",
    "euc_jis_2004": "euc_jp",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "hz_gb_2312": "hz",
    "iso2022_jp": "iso2022_jp_ext",
    "iso2022_jp_2": "iso2022_jp_ext",
    "iso2022_jp_2004": "iso2022_jp_ext",
    "iso8859_1": "cp1252",
    "iso8859_11": "cp874",
    "iso8859_9": "cp1254",
    "latin_1": "cp1252",
    "shift_jis": "cp932",
    "shift_jis_2004": "cp932",
    "tis_620": "cp874",
}
_OTHERS = frozenset(
    {"cp437", "cp720", "cp737", "cp775", "cp850", "cp852", "cp855", "cp857", "cp858", "cp860", "cp861", "cp862"}
    | {"cp863", "cp864", "cp865", "cp866", "cp869", "cp1125", "hz", "iso2022_kr", "johab", "koi8_t", "kz1048"}
    | {"mac_cyrillic", "mac_greek", "mac_iceland", "mac_latin2", "mac_roman", "mac_turkish", "ptcp154"}
    | {"utf_32", "utf_32_be", "utf_32_le"}
) | frozenset(_SUPERSETS)
# No codecs of these exist in Python, or they hide text (UTF-7) or are no encoding of text.
_UNREADABLE = frozenset({"replacement", "x-user-defined"})
WIDE = frozenset({"utf_16_be", "utf_16_le", "utf_32", "utf_32_be", "utf_32_le"})
SEVEN_BITS = frozenset({"hz", "iso2022_jp_ext", "iso2022_kr"})

_DECLARATION_BYTES = 4096
_META = re.compile(rb"<meta[^>]{1,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.\-]{2,40})", re.IGNORECASE)
_XML = re.compile(rb"\s{0,100}<\?xml\s[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_:.\-]{2,40})", re.IGNORECASE)

_ISO_2022_JP = re.compile(rb"\x1b(?:\$[@B]|\$\([DQ]|\([IJ])")
_ISO_2022_KR = b"\x1b$)C"
# A run of Chinese: leads of signs and common characters, so that few other texts have one by chance.
_HZ = re.compile(rb"~\{(?:[\x21-\x29\x30-\x57][\x21-\x7e]){1,500}~\}")


def codec(label: str) -> str | None:
    """Python's codec for a declared name; None for an unknown one."""
    if not label or not label.isascii():
        return None
    encoding = lookup(label)
    if encoding is not None and encoding.name not in _UNREADABLE:
        return superset(encoding.codec_info.name)
    # Not through `codecs.lookup`, which would import modules and knows codecs that are no encodings.
    name = _python_name(label)
    name = aliases.get(name, name)
    return superset(name) if name in _OTHERS else None


def declared_within(data: bytes) -> str:
    """The name in the declaration of an HTML or XML document, "" without one."""
    head = data[:_DECLARATION_BYTES]
    found = _XML.match(head) or _META.search(head)
    return found[1].decode("ascii") if found else ""


def seven_bit_codec(data: bytes) -> str | None:
    """The encoding that switches between character sets by sequences of ASCII characters, if `data` has some."""
    if b"\x1b" in data:
        if data.find(_ISO_2022_KR, 0, _DECLARATION_BYTES) >= 0:
            return "iso2022_kr"
        if _ISO_2022_JP.search(data):
            return "iso2022_jp_ext"
    return "hz" if b"~{" in data and _HZ.search(data) else None


def superset(name: str) -> str:
    """Python's codec that reads texts in encoding `name`, and those that only claim to be."""
    name = _python_name(name)
    return _SUPERSETS.get(name, name)


def _python_name(name: str) -> str:
    return normalize_encoding(name.strip()).lower().replace("-", "_")
