"""Grammars of programming languages, and what they call definitions: functions, methods, classes and their like."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import tree_sitter_c_sharp
import tree_sitter_cpp
import tree_sitter_go
import tree_sitter_java
import tree_sitter_javascript
import tree_sitter_php
import tree_sitter_python
import tree_sitter_ruby
import tree_sitter_rust
import tree_sitter_typescript
from tree_sitter import Language, Parser, Tree

# Real code takes a call for each 250 bytes; text in another language than it is read in may take one for each byte.
_CALLS = 1000
_BYTES_FOR_A_CALL = 50
_READ_BYTES = 1 << 16

_JAVASCRIPT = (
    "function_declaration generator_function_declaration class_declaration method_definition "
    "arrow_function function_expression"
)
_TYPESCRIPT = f"{_JAVASCRIPT} abstract_class_declaration interface_declaration enum_declaration internal_module"
_LANGUAGES: tuple[tuple[str, Callable[[], object], str], ...] = (
    ("py pyi", tree_sitter_python.language, "function_definition class_definition"),
    ("js mjs cjs jsx", tree_sitter_javascript.language, _JAVASCRIPT),
    ("ts", tree_sitter_typescript.language_typescript, _TYPESCRIPT),
    ("tsx", tree_sitter_typescript.language_tsx, _TYPESCRIPT),
    (
        "java",
        tree_sitter_java.language,
        "class_declaration interface_declaration enum_declaration record_declaration method_declaration "
        "constructor_declaration",
    ),
    ("go", tree_sitter_go.language, "function_declaration method_declaration type_spec"),
    (
        "rs",
        tree_sitter_rust.language,
        "function_item struct_item enum_item trait_item impl_item mod_item macro_definition",
    ),
    (
        "c h cc cpp cxx hpp hh",  # C is close to a part of C++
        tree_sitter_cpp.language,
        "function_definition namespace_definition class_specifier struct_specifier enum_specifier",
    ),
    (
        "cs",
        tree_sitter_c_sharp.language,
        "class_declaration struct_declaration interface_declaration enum_declaration record_declaration "
        "namespace_declaration method_declaration constructor_declaration property_declaration",
    ),
    ("rb", tree_sitter_ruby.language, "class module method singleton_method"),
    (
        "php",
        tree_sitter_php.language_php,
        "class_declaration interface_declaration trait_declaration enum_declaration function_definition "
        "method_declaration",
    ),
)


@dataclass(frozen=True, slots=True)
class Grammar:
    """`definitions`: the types of nodes that are one."""

    language: Language
    definitions: frozenset[str]

    def parsed(self, source: bytes) -> Tree | None:
        """None where parsing would take much longer than it takes for code.

        The bound counts steps instead of seconds: the same source always gives the same.
        """
        left = _CALLS + len(source) // _BYTES_FOR_A_CALL

        def exhausted(_offset: int, _has_error: bool) -> bool:
            nonlocal left
            left -= 1
            return left < 0

        def piece(offset: int, _: object) -> bytes:
            return source[offset : offset + _READ_BYTES]

        try:
            return Parser(self.language).parse(piece, progress_callback=exhausted)
        except ValueError:
            return None


def _grammars() -> Iterator[tuple[str, Grammar]]:
    for suffixes, language, definitions in _LANGUAGES:
        grammar = Grammar(Language(language()), frozenset(definitions.split()))
        yield from ((f".{suffix}", grammar) for suffix in suffixes.split())


GRAMMARS: Mapping[str, Grammar] = MappingProxyType(dict(_grammars()))
"""By the suffix of a file's name."""
