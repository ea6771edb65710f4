"""What a file's name and its uploader claim about it, which counts where its bytes cannot tell."""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Self

from services.indexing.pipeline.documents import (
    CSV,
    DOCX,
    EML,
    EPUB,
    HTML,
    JSON,
    JSON_LINES,
    MARKDOWN,
    NOTEBOOK,
    ODP,
    ODS,
    ODT,
    PDF,
    PPTX,
    SOURCE_CODE,
    TSV,
    XLSX,
    XML,
)

_SOURCE_SUFFIXES = re.findall(
    r"\w+",
    "py pyi js mjs cjs ts tsx jsx vue svelte java kt kts scala groovy gradle c h cc cpp cxx hpp hh cs go rs rb php "
    "swift m mm pl pm lua r jl dart ex exs erl hs ml fs clj lisp el vim sh bash zsh fish ps1 bat cmd sql css scss sass "
    "less graphql proto tf hcl cmake mk asm s f90 f pas vb v sv vhd tcl zig nim sol toml yaml yml ini cfg "
    "conf properties",
)
_TYPES_BY_SUFFIX = {
    ".pdf": PDF,
    ".docx": DOCX,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".pptx": PPTX,
    ".xlsx": XLSX,
    ".odt": ODT,
    ".ods": ODS,
    ".odp": ODP,
    ".epub": EPUB,
    ".eml": EML,
    ".mht": EML,
    ".mhtml": EML,
    ".csv": CSV,
    ".tsv": TSV,
    ".tab": TSV,
    ".json": JSON,
    ".geojson": JSON,
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".ipynb": NOTEBOOK,
    ".xml": XML,
    **dict.fromkeys((f".{suffix}" for suffix in _SOURCE_SUFFIXES), SOURCE_CODE),
}
_TYPE_ALIASES = {
    "text/x-markdown": MARKDOWN,
    "application/xhtml+xml": HTML,
    "application/x-pdf": PDF,
    "application/x-ndjson": JSON_LINES,
    "application/jsonlines": JSON_LINES,
    "application/csv": CSV,
    "text/json": JSON,
    "text/xml": XML,
    "multipart/related": EML,
}

_CHARSET = re.compile(r"(?:^|;)\s{0,9}charset\s{0,9}=\s{0,9}[\"']?([A-Za-z0-9_:.+-]{1,40})", re.IGNORECASE)

_OLD_OFFICE = {".xls": "xls", ".ppt": "ppt", ".pps": "ppt", ".msg": "message"}


@dataclass(frozen=True, slots=True)
class Hints:
    """What a file's name and its uploader claim: content types, an encoding, the kind of an old Office file.

    `suffix` is that of the name, in small letters, with its dot.
    """

    claimed: frozenset[str]
    charset: str = ""
    old_office: str = ""
    suffix: str = ""

    @classmethod
    def of(cls, name: str, declared_type: str) -> Self:
        declared, _, parameters = declared_type.partition(";")
        declared = declared.strip().lower()
        charset = _CHARSET.search(parameters)
        suffix = PurePath(name).suffix.lower()
        by_name = _TYPES_BY_SUFFIX.get(suffix, "")
        return cls(
            frozenset({_TYPE_ALIASES.get(declared, declared), by_name}),
            charset[1] if charset else "",
            _OLD_OFFICE.get(suffix, ""),
            suffix,
        )
