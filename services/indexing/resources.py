"""The resources of the running indexing service, and which role needs which.

`http` and `jobs` need the embedder and the vector store, only `jobs` the extraction processes. Everything is warm
before the service reports ready: the model has embedded a sentence, the extraction processes have imported their
parsers. A vector store that is elsewhere (shared, or a Qdrant server) may come later: the service starts without it
and is not ready until it is there.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Final

import aiohttp

from services.indexing import analysis
from services.indexing.agents.asking import Runs
from services.indexing.agents.chat import client as chat
from services.indexing.agents.chat.client import ChatModel
from services.indexing.agents.execution import Tools
from services.indexing.agents.mcp.dependencies import McpResources
from services.indexing.agents.mcp.door import Door
from services.indexing.agents.mcp.projects_client import ProjectsClient
from services.indexing.agents.mcp.service import Services
from services.indexing.agents.metrics import RunMetrics
from services.indexing.agents.orchestrator import Orchestrator
from services.indexing.agents.runs import repository as runs_repository
from services.indexing.agents.runs.endings import Endings
from services.indexing.agents.runs.handlers import handlers as run_handlers
from services.indexing.agents.writing import writing_of
from services.indexing.dependencies import Resources
from services.indexing.documents.chunk_lengths import ChunkLengths
from services.indexing.documents.content import ContentSource
from services.indexing.documents.handlers import handlers
from services.indexing.documents.owner import DocumentOwner
from services.indexing.documents.vector_sync import VectorSync
from services.indexing.embedders import Embedder, minilm
from services.indexing.embedders.endpoint import EndpointEmbedder
from services.indexing.embedders.installed import Embedders
from services.indexing.embedders.minilm import MiniLM
from services.indexing.generations import repository as generations
from services.indexing.generations.identity import Identity
from services.indexing.generations.metrics import GenerationMetrics, generations_source
from services.indexing.generations.models import Generation, GenerationDocument
from services.indexing.generations.point_writer import PointWriter
from services.indexing.generations.queues import DOCUMENTS, GENERATIONS
from services.indexing.generations.steps import GenerationSteps, Intervals
from services.indexing.jobs.lease_holders import new_owner
from services.indexing.jobs.metrics import JobMetrics, queue_source
from services.indexing.jobs.worker import Worker
from services.indexing.jobs.worker_places import Places
from services.indexing.pipeline.extraction import ExtractionPool
from services.indexing.pipeline.stages import Pipeline
from services.indexing.progress import ProgressPublisher
from services.indexing.search.engine import SearchEngine
from services.indexing.search.fair_share import SearchShares
from services.indexing.search.metrics import SearchMetrics
from services.indexing.search.read_after import Waiting
from services.indexing.search.reranking.endpoint import EndpointReranker
from services.indexing.settings import BUNDLED, IndexingSettings
from services.indexing.tenant_turns import TenantTurns
from services.indexing.vectors.factory import store_of
from services.indexing.work_priority import UrgentWork
from shared.background import run_in_background
from shared.delegation import Delegation
from shared.invalidations.holder import Holder, Ownership
from shared.invalidations.projected_copies import Projection
from shared.project_access import ProjectDirectory, access_handlers
from shared.service import Runtime, Started
from shared.settings import Role
from shared.telemetry import get_logger

Signal = Callable[[], None]

_STEPS_AT_ONCE: Final = 2
_WRITERS_AT_ONCE: Final = 2

_log = get_logger(__name__)


@asynccontextmanager
async def resources(settings: IndexingSettings, runtime: Runtime) -> AsyncIterator[Started[Resources]]:
    wake, interrupt, wake_runs, interrupt_runs = _nobody, _nobody, _nobody, _nobody
    async with AsyncExitStack() as stack:
        runtime.sources.append(queue_source(runtime.database.engines.system))
        runtime.sources.append(generations_source(runtime.database.engines.system))
        ownership = Ownership("projects", settings.projects_url, "indexing", durable=True)
        projection = Projection(Holder(ownership, runtime.tokens, runtime.http))
        directory = ProjectDirectory(settings.projects_url, runtime.tokens, runtime.http, projection)
        owner = DocumentOwner(settings.projects_url, runtime.tokens, runtime.http)
        if settings.roles & {Role.HTTP, Role.JOBS}:
            urgent = UrgentWork()
            search = await _open_search(stack, settings, runtime, directory, urgent)
            writing, endings = writing_of(search, await _open_model(stack, settings)), Endings()
        if Role.JOBS in settings.roles:
            interrupt, *signals = await _start_work(stack, settings, runtime, search, urgent)

            def wake() -> None:
                for signal in signals:
                    signal()

            metrics = RunMetrics(runtime.metrics)
            tools = Tools(runtime.database, runtime.authority, search, writing, metrics, settings.run_claim_seconds)
            orchestrator = Orchestrator(tools, endings, concurrency=settings.run_concurrency)
            metrics.watch(settings.run_concurrency, lambda: orchestrator.busy)
            wake_runs, interrupt_runs = orchestrator.wake, orchestrator.interrupt
            task = await stack.enter_async_context(run_in_background(orchestrator.run, name="runs"))
            runtime.checks["runs"] = _alive(task)

        known = (*access_handlers("indexing"), *handlers(wake=wake, interrupt=interrupt))
        known = (*known, *run_handlers(wake=wake_runs, interrupt=interrupt_runs))
        if settings.roles & {Role.HTTP, Role.JOBS}:
            await stack.enter_async_context(projection.kept(runtime, "projects", known))
            runs = Runs(runtime.database, directory, endings, wake_runs, interrupt_runs, writing.model)
            door = Door(Services(search, runs, _projects_client(settings, runtime)))
            await stack.enter_async_context(door.running())
            target = Identity.of(search.embedders.target)
            yield McpResources(runtime.database, directory, wake, owner, target, search, runs, door), known
        else:
            yield Resources(runtime.database, directory, wake), known


def _projects_client(settings: IndexingSettings, runtime: Runtime) -> ProjectsClient:
    secret = settings.service_secret.get_secret_value()
    delegation = Delegation(settings.service, secret, settings.identity_url, runtime.http)
    return ProjectsClient(settings.projects_url, delegation, runtime.http)


async def _open_search(
    stack: AsyncExitStack, settings: IndexingSettings, runtime: Runtime, directory: ProjectDirectory, urgent: UrgentWork
) -> SearchEngine:
    in_use = await _generations_in_use(runtime)
    embedders = await _open_embedders(stack, settings, urgent, {made.embedder for made in in_use})
    await asyncio.to_thread(analysis.prepare)
    lengths = dict.fromkeys((embedders.target.dimensions, *(made.dimensions for made in in_use)))
    store = store_of(settings, list(lengths))
    await store.start()
    stack.push_async_callback(store.stop)

    async def check() -> None:
        if not await store.healthy():
            raise RuntimeError("the vector store does not answer")

    runtime.checks["vectors"] = check
    shares = SearchShares()
    stack.callback(shares.close)
    reranker = await _open_reranker(stack, settings)
    waiting = Waiting(runtime.database)
    task = await stack.enter_async_context(run_in_background(waiting.run, name="arrivals"))
    runtime.checks["arrivals"] = _alive(task)
    metrics = SearchMetrics(runtime.metrics)
    return SearchEngine(runtime.database, directory, embedders, store, shares, waiting, metrics, reranker)


async def _open_reranker(stack: AsyncExitStack, settings: IndexingSettings) -> EndpointReranker | None:
    """Nothing is sent to it before a search asks for it."""
    if settings.reranker is None:
        return None
    return EndpointReranker(settings.reranker, await stack.enter_async_context(aiohttp.ClientSession()))


async def _open_model(stack: AsyncExitStack, settings: IndexingSettings) -> ChatModel | None:
    """The model that writes answers, if there is one. Nothing is sent to it before it is asked."""
    name = settings.answer_model
    if name is None:
        return None
    return await stack.enter_async_context(chat.opened(name, settings.chat_models[name]))


async def _generations_in_use(runtime: Runtime) -> list[Identity]:
    """What the points of all projects were made with."""
    async with runtime.database.system() as session:
        return await generations.identities(session)


async def _open_embedders(
    stack: AsyncExitStack, settings: IndexingSettings, urgent: UrgentWork, in_use: Collection[str]
) -> Embedders:
    """The one that new generations are made with first. The bundled one takes memory, so it is left out if nothing was
    made with it; an endpoint takes none."""
    installed: dict[str, Embedder] = {}
    if settings.embedder == BUNDLED or minilm.NAME in in_use:
        bundled = await asyncio.to_thread(MiniLM.load, settings.model_dir, settings.embedding_threads, urgent)
        stack.push_async_callback(asyncio.to_thread, bundled.close)
        await bundled.embed_query("warm", caller=None)
        installed[BUNDLED] = bundled
    if settings.embedding_endpoints:
        client = await stack.enter_async_context(aiohttp.ClientSession())
        for endpoint in settings.embedding_endpoints:
            installed[endpoint.name] = EndpointEmbedder(endpoint, client, urgent)
    embedders = Embedders(installed.pop(settings.embedder), *installed.values())
    if missing := set(in_use) - {embedder.name for embedder in embedders}:
        _log.error("embedders_not_installed", names=sorted(missing))
    return embedders


async def _start_work(
    stack: AsyncExitStack, settings: IndexingSettings, runtime: Runtime, search: SearchEngine, urgent: UrgentWork
) -> Sequence[Signal]:
    """What interrupts jobs, and what else wakes."""
    content = ContentSource(settings.projects_url, runtime.tokens, runtime.http, settings.data_dir / "incoming")
    places = Places(settings.job_concurrency, settings.long_job_concurrency, urgent)
    extraction = await stack.enter_async_context(
        ExtractionPool(
            settings.extraction_processes,
            long=settings.long_job_concurrency,
            required=settings.extraction_confinement == "required",
            took_long=places.took_long,
            urgent=urgent,
        )
    )
    confinement = extraction.confinement
    tell = _log.info if confinement.is_sufficient else _log.warning
    tell("extraction_confinement", layers=confinement.layers, missing=confinement.missing)
    progress = ProgressPublisher(runtime.redis)
    metrics, lengths = JobMetrics(runtime.metrics), ChunkLengths()
    worker = Worker(
        runtime.database,
        Pipeline(runtime.database, content, extraction, search.embedders, search.store, progress, metrics, lengths),
        owner=new_owner(),
        places=places,
        lease_seconds=settings.job_lease_seconds,
        max_attempts=settings.job_max_attempts,
    )
    metrics.watch(settings.job_concurrency + settings.long_job_concurrency, lambda: worker.busy)
    vector_sync = VectorSync(runtime.database, search.store, runs_repository.has_given, urgent)
    steps, writers = _generations(settings, runtime, search, urgent)
    for name, work in (
        ("progress", progress.run),
        ("vector-changes", vector_sync.run),
        ("generations", steps.run),
        ("generation-documents", writers.run),
        ("jobs", worker.run),
    ):
        task = await stack.enter_async_context(run_in_background(work, name=name))
        runtime.checks[name] = _alive(task)
    return worker.interrupt, worker.wake, vector_sync.wake, steps.wake, writers.wake


def _generations(
    settings: IndexingSettings, runtime: Runtime, search: SearchEngine, urgent: UrgentWork
) -> tuple[TenantTurns[Generation], TenantTurns[GenerationDocument]]:
    """The steps of generations, and the writing of the points that they lack."""
    metrics = GenerationMetrics(runtime.metrics)
    intervals = Intervals(
        kept_for=timedelta(seconds=settings.generation_kept_seconds),
        check=timedelta(seconds=settings.drift_check_seconds),
    )
    target = Identity.of(search.embedders.target)
    steps = GenerationSteps(runtime.database, search.store, target, intervals, metrics, urgent)
    writer = PointWriter(runtime.database, search.store, search.embedders, metrics, urgent)
    return (
        TenantTurns(runtime.database, GENERATIONS, steps.turn, name="generations", tenants_at_once=_STEPS_AT_ONCE),
        TenantTurns(
            runtime.database, DOCUMENTS, writer.turn, name="generation-documents", tenants_at_once=_WRITERS_AT_ONCE
        ),
    )


def _alive(task: "asyncio.Task[None]") -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        if task.done():
            raise RuntimeError(f"{task.get_name()} has stopped")

    return check


def _nobody() -> None:
    """This process has no worker; workers elsewhere find the work by polling."""
