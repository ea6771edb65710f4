"""The collection on a Qdrant server: one for all tenants, created by whichever process comes first.

No graph over everything (`m: 0`) but one within each tenant and project (`payload_m: 16`); their indexes exist before
the first point, or there would be no graph. Everything here may be done by several processes at once, and repeatedly.
"""

import re
from typing import Final

from grpc import RpcError
from qdrant_client import AsyncQdrantClient, models

from services.indexing.vectors.engine import INDEXES, IndexKind
from services.indexing.vectors.errors import VectorStoreUnavailable

DENSE: Final = "dense"
KEYWORDS: Final = "keywords"

_OLDEST: Final = (1, 19)
"""Before it, term statistics are those of all tenants and prefixes match nothing, both without an error."""
_PARTITIONS: Final = frozenset({"tenant_id", "project_id"})


async def check_version(client: AsyncQdrantClient) -> None:
    """Raises VectorStoreUnavailable when the server would silently ignore what isolation relies on."""
    version = (await client.info()).version
    parts = re.match(r"(\d+)\.(\d+)", version)
    if parts is None or tuple(map(int, parts.groups())) < _OLDEST:
        raise VectorStoreUnavailable(f"the Qdrant server has version {version or 'none'}; 1.19 or later is needed")


async def ensure(client: AsyncQdrantClient, name: str, *, dimensions: int, create: bool) -> None:
    """Make sure that the collection exists with all its indexes; it is created if `create` allows.

    Raises:
        VectorStoreUnavailable: it is missing, or not ours.
    """
    if not await client.collection_exists(name):
        if not create:
            raise VectorStoreUnavailable(f"the collection {name} is gone")
        await _create(client, name, dimensions)
    info = await client.get_collection(name)
    _verify(name, info.config.params, dimensions)
    for field, kind in INDEXES.items():
        if field not in info.payload_schema:
            await client.create_payload_index(name, field, _index(field, kind), wait=True)


async def _create(client: AsyncQdrantClient, name: str, dimensions: int) -> None:
    try:
        await client.create_collection(
            name,
            vectors_config={DENSE: models.VectorParams(size=dimensions, distance=models.Distance.COSINE)},
            sparse_vectors_config={KEYWORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            hnsw_config=models.HnswConfigDiff(m=0, payload_m=16),
        )
    except RpcError:
        # Another process was faster, however the server words that error.
        if not await client.collection_exists(name):
            raise


def _verify(name: str, params: models.CollectionParams, dimensions: int) -> None:
    vectors = params.vectors if isinstance(params.vectors, dict) else {}
    dense, keywords = vectors.get(DENSE), (params.sparse_vectors or {}).get(KEYWORDS)
    if dense is None or keywords is None or keywords.modifier != models.Modifier.IDF:
        raise VectorStoreUnavailable(f"the collection {name} was not created by Quarry")
    if dense.size != dimensions or dense.distance != models.Distance.COSINE:
        raise VectorStoreUnavailable(f"the collection {name} has vectors of {dense.size} numbers, not {dimensions}")


def _index(field: str, kind: IndexKind) -> models.PayloadSchemaParams:
    partition = field in _PARTITIONS
    match kind:
        case "uuid":
            return models.UuidIndexParams(
                type=models.UuidIndexType.UUID, is_tenant=field == "tenant_id", enable_hnsw=partition
            )
        case "keyword":
            return models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, prefix=True, enable_hnsw=partition)
        case "integer":
            return models.IntegerIndexParams(
                type=models.IntegerIndexType.INTEGER, lookup=True, range=False, enable_hnsw=partition
            )
        case "datetime":
            return models.DatetimeIndexParams(type=models.DatetimeIndexType.DATETIME, enable_hnsw=partition)
