"""The embedders of a process, by name."""

from collections.abc import Iterator, Mapping

from services.indexing.embedders import Embedder
from services.indexing.embedders.errors import EmbedderNotInstalled


class Embedders:
    """`target` is the one with which new generations are made; the others serve generations made before."""

    def __init__(self, target: Embedder, *others: Embedder) -> None:
        self.target = target
        self._by_name: Mapping[str, Embedder] = {embedder.name: embedder for embedder in (target, *others)}

    def named(self, name: str) -> Embedder:
        """Raises EmbedderNotInstalled."""
        embedder = self._by_name.get(name)
        if embedder is None:
            raise EmbedderNotInstalled(f"no embedder is called {name}: see QUARRY_INDEXING_EMBEDDING_ENDPOINTS")
        return embedder

    def __iter__(self) -> Iterator[Embedder]:
        return iter(self._by_name.values())

    def close(self) -> None:
        """Blocks."""
        for embedder in self:
            embedder.close()
