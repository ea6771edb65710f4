"""Errors of a search.

RerankUnsupported 422    no reranker is configured
RerankerUnavailable 503  it does not respond: the search goes on without it, so no client sees this
TooManySearches 429      the tenant has as many under way and waiting as it may
SearchTooSlow 503        it exceeded its time limit and was stopped
(the vector store's own VectorStoreUnavailable 503 and SearchWindowExceeded 400 reach the client as they are)
"""

from shared.errors import InvalidRequest, RateLimited, Unavailable


class RerankUnsupported(InvalidRequest):
    status = 422
    code = "rerank_unsupported"
    detail = "This installation has no reranker; set rerank to false."


class RerankerUnavailable(Unavailable):
    """`reason` is for logs and operators: it may quote the endpoint."""

    code = "reranker_unavailable"
    detail = "Passages cannot be reranked right now."

    def __init__(self, reason: str) -> None:
        super().__init__(retry_after=1)
        self.reason = reason
        self.add_note(reason)


class TooManySearches(RateLimited):
    code = "too_many_searches"
    detail = "Too many searches at once; wait for some to finish."


class SearchTooSlow(Unavailable):
    code = "search_too_slow"
    detail = "The search took too long and was stopped; narrow it, or try again shortly."
