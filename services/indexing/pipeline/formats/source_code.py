"""Source code, with the numbers of its lines."""

from array import array

from services.indexing.pipeline.documents import SOURCE_CODE, Extracted, Structure, Table
from services.indexing.pipeline.formats.text import clean, required


def extract(decoded: str) -> Extracted:
    text = clean(decoded).rstrip()
    first = len(text) - len(text.lstrip("\n"))
    text = required(text[first:])
    starts = array("L", [0])
    place = text.find("\n")
    while place >= 0:
        starts.append(place + 1)
        place = text.find("\n", place + 1)
    numbers = range(first + 1, first + 1 + len(starts))
    table = Table(0, len(text), starts=starts, numbers=numbers, unit="lines")
    return Extracted(text, SOURCE_CODE, None, None, structure=Structure(tables=(table,)))
