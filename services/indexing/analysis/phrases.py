"""Words in order: what a phrase in quotation marks is looked up in."""

from services.indexing.analysis import tokenizer
from services.indexing.analysis.folding import folded
from services.indexing.analysis.tokenizer import MAX_WORD, RUN

_BETWEEN = "\n"


def sequence_of(text: str) -> str:
    """The words of a text, as they are compared; characters where these are not spaced. One text has the words of
    another in this order if its sequence contains the other's. Linear in the length of the text."""
    found: list[str] = []
    for token in tokenizer.tokens(text):
        if token.lastgroup == RUN:
            found += (folded(character.group()[:MAX_WORD]) for character in tokenizer.characters(text, token))
        else:
            found.append(folded(token.group()[:MAX_WORD]))
    return _BETWEEN + "".join(f"{unit}{_BETWEEN}" for unit in found) if found else ""
