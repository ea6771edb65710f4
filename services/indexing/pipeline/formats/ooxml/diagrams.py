"""The text of diagrams (SmartArt) and charts, which is kept in parts of their own."""

from collections.abc import Collection, Iterator
from typing import IO

from services.indexing.pipeline.formats.xml_reading.events import ended, events


def diagram_lines(stream: IO[bytes]) -> Iterator[str]:
    """The texts of a diagram's data part: a node before the nodes below it, as the diagram shows them."""
    texts: dict[str, str] = {}
    below: dict[str, list[tuple[int, str]]] = {}
    lines: list[str] = []
    with stream:
        for event, name, element in events(stream, ["dgm:pt", "dgm:cxn", "a:p", "a:t", "a:br"]):
            if event == "start":
                continue
            if name == "a:t":
                lines.append(element.text or "")
            elif name in {"a:p", "a:br"}:
                lines.append("\n")
            elif name == "dgm:pt":
                texts[element.get("modelId", "")] = "".join(lines)
                lines.clear()
                element.clear(keep_tail=True)
            elif element.get("type", "parOf") == "parOf":
                order = element.get("srcOrd", "")
                place = int(order) if order.isascii() and order.isdecimal() and len(order) < 10 else 0
                below.setdefault(element.get("srcId", ""), []).append((place, element.get("destId", "")))
    for node in _from_the_top(texts, below):
        yield from texts[node].split("\n")


def chart_lines(stream: IO[bytes]) -> Iterator[str]:
    """Titles of a chart and its axes, names of its series and categories; each text once."""
    said: set[str] = set()
    words: list[str] = []
    for name, element in ended(stream, ["a:p", "a:t", "c:strCache", "c:multiLvlStrCache", "cx:strDim", "cx:v"]):
        if name in {"a:t", "cx:v"}:
            words.append(element.text or "")
        found = []
        if name in {"a:p", "cx:v"}:
            found = ["".join(words)]
            words.clear()
        elif name != "a:t":
            found = [text for text in element.itertext("{*}v", "{*}pt", with_tail=False) if text]
        for text in found:
            if text not in said:
                said.add(text)
                yield text


def _from_the_top(nodes: Collection[str], below: dict[str, list[tuple[int, str]]]) -> Iterator[str]:
    """Every node once: a node, then what is below it in order. Those without a way from the top come where they are."""
    targets = {target for places in below.values() for _, target in places}
    tops = [node for node in nodes if node not in targets]
    seen = set[str]()
    for top in (*tops, *nodes):
        waiting = [top]
        while waiting:
            node = waiting.pop()
            if node in seen or node not in nodes:
                continue
            seen.add(node)
            yield node
            waiting += [target for _, target in sorted(below.get(node, ()), reverse=True)]
