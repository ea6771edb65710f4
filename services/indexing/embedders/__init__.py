"""Text to vectors. One protocol, so that the pipeline treats a local model and a remote endpoint alike.

`minilm` is the bundled model, `endpoint` an OpenAI-compatible API, `installed` those of this process by name.
"""

from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into unit vectors of `dimensions` float32, so that a dot product is the cosine.

    `name` identifies the vectors: two embedders of one name give comparable vectors, others do not.
    """

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    async def embed(self, texts: Sequence[str], *, caller: Hashable, background: bool = False) -> Vectors:
        """Vectors of passages, shape (len(texts), dimensions), in the order of the texts.

        Callers take turns. A `background` call gives way to all others.

        Raises:
            EmbedderUnavailable: it is elsewhere and does not respond now, or refuses.
        """

    async def embed_query(self, text: str, *, caller: Hashable) -> Vectors:
        """The vector of a search query, shape (dimensions,). Callers take turns. Raises as `embed`."""

    def close(self) -> None:
        """Gives up what it holds. Blocks."""
