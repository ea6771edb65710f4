"""A server that speaks as much of Qdrant's gRPC as the product uses: `python -m tests.support.qdrant_server <options>`.

Behind it works Qdrant's own engine, the embedded one; the network shell alone is written here. So it proves what the
product's client code asks for, how it maps answers and errors, and what the same engine answers to that. It does not
prove anything about a real server: its versions, its graphs, its optimiser, several shards or nodes. The same tests
run against a real one when `QUARRY_TEST_QDRANT_URL` names it.

Like the real one it keeps what was acknowledged through `kill -9`, wants the API key for everything but the health
check, answers NOT_FOUND for collections there are not and ALREADY_EXISTS for those there are, and ignores what a
version before 1.19 did not know.
"""

import argparse
import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from uuid import UUID

import grpc
import grpc.aio
import qdrant_edge as edge
from qdrant_client import grpc as q
from qdrant_client.conversions.conversion import GrpcToRest

from tests.support.qdrant_translation import config_of, filter_of, index_of, info_of, point_of, retrieved, vectors_of

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")


class Collection:
    """What was asked for when it was made, its indexes, and the points, in a folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.request = q.CreateCollection.FromString((home / "create.pb").read_bytes())
        self.indexes = {
            path.name: q.CreateFieldIndexCollection.FromString(path.read_bytes())
            for path in (home / "indexes").iterdir()
        }
        self.shard = edge.EdgeShard.load(str(home / "shard"), config_of(self.request))

    @classmethod
    def create(cls, home: Path, request: q.CreateCollection) -> "Collection":
        shutil.rmtree(home, ignore_errors=True)
        (home / "indexes").mkdir(parents=True)
        (home / "shard").mkdir()
        edge.EdgeShard.create(str(home / "shard"), config_of(request)).close()
        (home / "create.pb").write_bytes(request.SerializeToString())
        return cls(home)

    def index(self, request: q.CreateFieldIndexCollection) -> None:
        params = index_of(request.field_index_params)
        self.shard.update(edge.UpdateOperation.create_field_index(request.field_name, params))
        (self.home / "indexes" / request.field_name).write_bytes(request.SerializeToString())
        self.indexes[request.field_name] = request


class Collections(q.CollectionsServicer):
    """Method names are Qdrant's."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._kept = {path.name: Collection(path) for path in home.iterdir() if (path / "create.pb").exists()}

    async def named(self, name: str, context: Context) -> Collection:
        found = self._kept.get(name)
        if found is None:
            await _refuse(context, grpc.StatusCode.NOT_FOUND, f"Not found: Collection `{name}` doesn't exist!")
        return found

    async def CollectionExists(  # noqa: N802
        self, request: q.CollectionExistsRequest, context: Context
    ) -> q.CollectionExistsResponse:
        return q.CollectionExistsResponse(result=q.CollectionExists(exists=request.collection_name in self._kept))

    async def Create(self, request: q.CreateCollection, context: Context) -> q.CollectionOperationResponse:  # noqa: N802
        name = request.collection_name
        if name in self._kept:
            await _refuse(context, grpc.StatusCode.ALREADY_EXISTS, f"Wrong input: Collection `{name}` already exists!")
        self._kept[name] = Collection.create(self._home / name, request)
        return q.CollectionOperationResponse(result=True)

    async def Delete(self, request: q.DeleteCollection, context: Context) -> q.CollectionOperationResponse:  # noqa: N802
        gone = self._kept.pop(request.collection_name, None)
        if gone is not None:
            gone.shard.close()
            shutil.rmtree(gone.home)
        return q.CollectionOperationResponse(result=gone is not None)

    async def Get(self, request: q.GetCollectionInfoRequest, context: Context) -> q.GetCollectionInfoResponse:  # noqa: N802
        collection = await self.named(request.collection_name, context)
        return q.GetCollectionInfoResponse(result=info_of(collection.request, collection.indexes))


class Points(q.PointsServicer):
    def __init__(self, collections: Collections, *, knows_scopes: bool) -> None:
        self._collections = collections
        self._knows_scopes = knows_scopes

    async def _of(self, request: Any, context: Context) -> Collection:
        return await self._collections.named(request.collection_name, context)

    async def Delete(self, request: q.DeletePoints, context: Context) -> q.PointsOperationResponse:  # noqa: N802
        collection = await self._of(request, context)
        chosen = await _understood(context, lambda: filter_of(request.points.filter))
        collection.shard.update(edge.UpdateOperation.delete_points_by_filter(chosen))
        return _done()

    async def Get(self, request: q.GetPoints, context: Context) -> q.GetResponse:  # noqa: N802
        found = (await self._of(request, context)).shard.retrieve(
            [UUID(point.uuid) for point in request.ids],
            with_payload=list(request.with_payload.include.fields),
            with_vector=False,
        )
        return q.GetResponse(result=[retrieved(record) for record in found])

    async def CreateFieldIndex(  # noqa: N802
        self, request: q.CreateFieldIndexCollection, context: Context
    ) -> q.PointsOperationResponse:
        (await self._of(request, context)).index(request)
        return _done()

    async def Upsert(self, request: q.UpsertPoints, context: Context) -> q.PointsOperationResponse:  # noqa: N802
        collection = await self._of(request, context)
        points = await _understood(context, lambda: [point_of(point) for point in request.points])
        collection.shard.update(edge.UpdateOperation.upsert_points(points))
        return _done()

    async def SetPayload(self, request: q.SetPayloadPoints, context: Context) -> q.PointsOperationResponse:  # noqa: N802
        collection = await self._of(request, context)
        chosen = await _understood(context, lambda: filter_of(request.points_selector.filter))
        payload = GrpcToRest.convert_payload(request.payload)
        collection.shard.update(edge.UpdateOperation.set_payload_by_filter(chosen, payload))
        return _done()

    async def UpdateVectors(  # noqa: N802
        self, request: q.UpdatePointVectors, context: Context
    ) -> q.PointsOperationResponse:
        collection = await self._of(request, context)
        chosen = await _understood(context, lambda: filter_of(request.update_filter))
        vectors = await _understood(context, lambda: [vectors_of(point) for point in request.points])
        collection.shard.update(edge.UpdateOperation.update_vectors(vectors, chosen))
        return _done()

    async def Count(self, request: q.CountPoints, context: Context) -> q.CountResponse:  # noqa: N802
        collection = await self._of(request, context)
        chosen = await _understood(context, lambda: filter_of(request.filter))
        count = collection.shard.count(edge.CountRequest(exact=request.exact, filter=chosen))
        return q.CountResponse(result=q.CountResult(count=count))

    async def Scroll(self, request: q.ScrollPoints, context: Context) -> q.ScrollResponse:  # noqa: N802
        collection = await self._of(request, context)
        chosen = await _understood(context, lambda: filter_of(request.filter))
        records, following = collection.shard.scroll(
            edge.ScrollRequest(
                offset=UUID(request.offset.uuid) if request.HasField("offset") else None,
                limit=request.limit,
                filter=chosen,
                with_payload=list(request.with_payload.include.fields),
                with_vector=list(request.with_vectors.include.names),
            )
        )
        return q.ScrollResponse(
            result=[retrieved(record) for record in records],
            next_page_offset=None if following is None else q.PointId(uuid=str(following)),
        )

    async def QueryBatch(self, request: q.QueryBatchPoints, context: Context) -> q.QueryBatchResponse:  # noqa: N802
        collection = await self._of(request, context)
        queries = await _understood(context, lambda: [self._query(query) for query in request.query_points])
        answers = collection.shard.query_batch(edge.QueryBatchRequest(queries))
        return q.QueryBatchResponse(
            result=[
                q.BatchResult(
                    result=[q.ScoredPoint(id=q.PointId(uuid=str(point.id)), score=point.score) for point in points]
                )
                for points in answers
            ]
        )

    def _query(self, query: q.QueryPoints) -> edge.QueryRequest:
        nearest = query.query.nearest
        kind = nearest.WhichOneof("variant")
        vector: Any = (
            edge.SparseVector(list(nearest.sparse.indices), list(nearest.sparse.values))
            if kind == "sparse"
            else list(nearest.dense.data)
        )
        scoped = self._knows_scopes and query.params.HasField("idf")
        return edge.QueryRequest(
            limit=query.limit,
            query=edge.Query.Nearest(vector, query.using),
            filter=filter_of(query.filter),
            params=edge.SearchParams(idf=edge.IdfParams(corpus=filter_of(query.params.idf.corpus))) if scoped else None,
            with_payload=False,
            with_vector=False,
        )


class Health(q.QdrantServicer):
    def __init__(self, version: str) -> None:
        self._version = version

    async def HealthCheck(self, request: q.HealthCheckRequest, context: Context) -> q.HealthCheckReply:  # noqa: N802
        return q.HealthCheckReply(title="qdrant", version=self._version)


class ApiKey(grpc.aio.ServerInterceptor):
    """Everything but the health check wants it."""

    def __init__(self, key: str) -> None:
        self._key = key

    async def intercept_service(self, continuation: Callable[..., Awaitable[Any]], details: Any) -> Any:
        sent = dict(details.invocation_metadata).get("api-key")
        if sent == self._key or details.method.endswith("/HealthCheck"):
            return await continuation(details)

        async def refuse(request: bytes, context: Context) -> NoReturn:
            await _refuse(context, grpc.StatusCode.UNAUTHENTICATED, "Invalid API key or JWT")

        return grpc.unary_unary_rpc_method_handler(refuse)


async def _refuse(context: Context, code: grpc.StatusCode, reason: str) -> NoReturn:
    await context.abort(code, reason)
    raise AssertionError("abort raises")


async def _understood(context: Context, read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as error:
        await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, f"Wrong input: {error}")


def _done() -> q.PointsOperationResponse:
    return q.PointsOperationResponse(result=q.UpdateResult(operation_id=1, status=q.UpdateStatus.Completed))


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", required=True)
    parser.add_argument("--version", default="1.20.0")
    options = parser.parse_args()
    options.home.mkdir(parents=True, exist_ok=True)
    server = grpc.aio.server(interceptors=[ApiKey(options.key)], options=[("grpc.so_reuseport", 0)])
    collections = Collections(options.home)
    knows_scopes = tuple(map(int, options.version.split(".")[:2])) >= (1, 19)
    points, health = Points(collections, knows_scopes=knows_scopes), Health(options.version)
    q.add_PointsServicer_to_server(points, server)  # type: ignore[no-untyped-call]  # generated without types
    q.add_CollectionsServicer_to_server(collections, server)  # type: ignore[no-untyped-call]  # as above
    q.add_QdrantServicer_to_server(health, server)  # type: ignore[no-untyped-call]  # as above
    port = server.add_insecure_port(f"127.0.0.1:{options.port}")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
