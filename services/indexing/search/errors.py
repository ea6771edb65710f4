"""What a search answers instead of results.

RerankUnsupported 422    no reranker is configured
(the vector store's own VectorStoreUnavailable 503 and SearchWindowExceeded 400 reach the client as they are)
"""

from typing import ClassVar

from shared.errors import InvalidRequest


class RerankUnsupported(InvalidRequest):
    status: ClassVar[int] = 422
    code: ClassVar[str] = "rerank_unsupported"
    detail: ClassVar[str] = "This installation has no reranker; send rerank false."
