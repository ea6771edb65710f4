"""Text to vectors. One protocol, so that a local model and a remote endpoint are the same thing to the pipeline."""

from collections.abc import Sequence
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

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages, shape (len(texts), dimensions), in the order of the texts."""

    async def embed_query(self, text: str) -> Vectors:
        """The vector of a search query, shape (dimensions,)."""
