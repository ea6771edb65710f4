"""What searches need."""

from dataclasses import dataclass

from services.indexing.embedders.installed import Embedders
from services.indexing.search.fair_share import SearchShares
from services.indexing.search.metrics import SearchMetrics
from services.indexing.search.read_after import Waiting
from services.indexing.search.reranking.endpoint import EndpointReranker
from services.indexing.vectors.store import VectorStore
from shared.project_access import ProjectDirectory
from shared.tenancy import Database


@dataclass(frozen=True, slots=True)
class SearchEngine:
    """Opened with the service, and shared by all searches. Without a `reranker`, none is asked."""

    database: Database
    directory: ProjectDirectory
    embedders: Embedders
    store: VectorStore
    shares: SearchShares
    waiting: Waiting
    metrics: SearchMetrics
    reranker: EndpointReranker | None = None
