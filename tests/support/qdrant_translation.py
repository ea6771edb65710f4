"""Qdrant's gRPC messages as objects of its embedded engine, and back. What is not spoken here is a ValueError."""

from __future__ import annotations  # some of the engine's type names exist in its stubs alone

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import qdrant_edge as edge
from qdrant_client import grpc as q
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc


def config_of(request: q.CreateCollection) -> edge.EdgeConfig:
    dense = request.vectors_config.params_map.map
    sparse = request.sparse_vectors_config.map
    return edge.EdgeConfig(
        vectors={
            name: edge.EdgeVectorParams(
                size=params.size,
                distance=edge.Distance.Cosine if params.distance == q.Distance.Cosine else edge.Distance.Dot,
            )
            for name, params in dense.items()
        },
        sparse_vectors={
            name: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf if params.modifier == q.Modifier.Idf else None)
            for name, params in sparse.items()
        },
        hnsw_config=edge.HnswIndexConfig(
            m=request.hnsw_config.m,
            payload_m=request.hnsw_config.payload_m,
            ef_construct=100,
            full_scan_threshold=10_000,
        ),
        wal_enabled=True,
    )


def info_of(request: q.CreateCollection, indexes: Mapping[str, q.CreateFieldIndexCollection]) -> q.CollectionInfo:
    return q.CollectionInfo(
        status=q.CollectionStatus.Green,
        optimizer_status=q.OptimizerStatus(ok=True),
        segments_count=1,
        config=q.CollectionConfig(
            params=q.CollectionParams(
                shard_number=1,
                on_disk_payload=True,
                vectors_config=request.vectors_config,
                sparse_vectors_config=request.sparse_vectors_config,
            ),
            hnsw_config=q.HnswConfigDiff(
                m=request.hnsw_config.m,
                payload_m=request.hnsw_config.payload_m,
                ef_construct=100,
                full_scan_threshold=10_000,
            ),
            optimizer_config=q.OptimizersConfigDiff(
                deleted_threshold=0.2,
                vacuum_min_vector_number=1000,
                default_segment_number=0,
                flush_interval_sec=5,
            ),
            wal_config=q.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
        ),
        payload_schema={
            field: q.PayloadSchemaInfo(data_type=_data_type(index), params=index.field_index_params, points=0)
            for field, index in indexes.items()
        },
    )


def _data_type(index: q.CreateFieldIndexCollection) -> q.PayloadSchemaType.ValueType:
    kind = (index.field_index_params.WhichOneof("index_params") or "").removesuffix("_index_params")
    number: q.PayloadSchemaType.ValueType = q.PayloadSchemaType.Value(kind.capitalize())
    return number


def index_of(params: q.PayloadIndexParams) -> edge.PayloadSchemaParams:
    asked = GrpcToRest.convert_payload_schema_params(params).model_dump(exclude={"type"}, exclude_none=True)
    match params.WhichOneof("index_params"):
        case "uuid_index_params":
            return edge.UuidIndexParams(**asked)
        case "keyword_index_params":
            return edge.KeywordIndexParams(**asked)
        case "integer_index_params":
            return edge.IntegerIndexParams(**asked)
        case "datetime_index_params":
            return edge.DatetimeIndexParams(**asked)
        case other:
            raise ValueError(f"not spoken here: {other}")


def point_of(point: q.PointStruct) -> edge.Point:
    model = GrpcToRest.convert_point_struct(point)
    if not isinstance(model.vector, dict):
        raise ValueError("Not existing vector name error: ")
    vectors: dict[str, Any] = {
        name: edge.SparseVector(vector.indices, vector.values) if isinstance(vector, models.SparseVector) else vector
        for name, vector in model.vector.items()
    }
    return edge.Point(UUID(str(model.id)), vectors, model.payload)


def vectors_of(point: q.PointVectors) -> edge.PointVectors:
    made = point_of(q.PointStruct(id=point.id, vectors=point.vectors))
    return edge.PointVectors(made.id, made.vector)


def retrieved(record: edge.Record) -> q.RetrievedPoint:
    vectors: Any = record.vector
    return q.RetrievedPoint(
        id=q.PointId(uuid=str(record.id)),
        payload=RestToGrpc.convert_payload(record.payload or {}),
        vectors=RestToGrpc.convert_vector_struct_output(vectors) if vectors else None,
    )


def filter_of(message: q.Filter) -> edge.Filter:
    return _edge_filter(GrpcToRest.convert_filter(message))


def _edge_filter(model: models.Filter) -> edge.Filter:
    return edge.Filter(
        must=_conditions(model.must), should=_conditions(model.should), must_not=_conditions(model.must_not)
    )


def _conditions(conditions: Any) -> list[edge.ConditionType] | None:
    if conditions is None:
        return None
    listed: Sequence[Any] = conditions if isinstance(conditions, list) else [conditions]
    return [_condition(condition) for condition in listed]


def _condition(condition: Any) -> edge.ConditionType:
    if isinstance(condition, models.Filter):
        return _edge_filter(condition)
    if isinstance(condition, models.HasIdCondition):
        return edge.HasIdCondition({UUID(str(point)) for point in condition.has_id})
    if not isinstance(condition, models.FieldCondition):
        raise ValueError(f"not spoken here: {condition}")
    if condition.match is not None:
        return edge.FieldCondition(condition.key, match=_match(condition.match))
    if isinstance(condition.range, models.DatetimeRange):
        instants: Mapping[str, Any] = condition.range.model_dump(exclude_none=True)
        return edge.FieldCondition(
            condition.key,
            range=edge.RangeDateTime(**{name: instant.isoformat() for name, instant in instants.items()}),
        )
    if isinstance(condition.range, models.Range):
        return edge.FieldCondition(
            condition.key, range=edge.RangeFloat(**condition.range.model_dump(exclude_none=True))
        )
    raise ValueError(f"not spoken here: {condition}")


def _match(match: models.Match) -> Any:
    match match:
        case models.MatchValue(value=str() | int() as value):
            return edge.MatchValue(value)
        case models.MatchAny(any=values):
            return edge.MatchAny(values)
        case models.MatchPrefix(prefix=prefix):
            return edge.MatchPrefix(prefix)
    raise ValueError(f"not spoken here: {match}")
