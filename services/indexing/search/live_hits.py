"""The ranked hits of one query, as far as they are live."""

import asyncio
import uuid
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import chain, compress
from typing import Final

from services.indexing.documents import repository as documents
from services.indexing.documents.repository import Described, Passage
from services.indexing.search import cursors, facets
from services.indexing.search.fair_share import SearchShares
from services.indexing.search.progress import Progress
from services.indexing.search.query_syntax import ParsedQuery
from services.indexing.vectors.errors import VectorStoreUnavailable
from services.indexing.vectors.points import MAX_WINDOW, SEARCH_SECONDS, Hit, VectorQuery
from services.indexing.vectors.store import ProjectVectors, VectorStore
from shared.project_access import Admission
from shared.telemetry import span
from shared.tenancy import Database

MAX_PAGE_BYTES: Final = 512 * 1024
"""Text and metadata of one page, unless its first item alone is larger. A shorter page has a cursor to the next."""

# Hits asked for beyond the page, so that a few stale ones do not cost a second round.
_SLACK: Final = 10
_DESCRIBED_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class Page:
    """`more`: whether there are hits after it; `others`: further ones of each document, where they are grouped."""

    hits: list[tuple[Hit, Passage]]
    more: bool
    others: dict[uuid.UUID, list[tuple[Hit, Passage]]] = field(default_factory=dict)


class Ranking:
    """Reads the store at most twice, and Postgres only for as long as the admission holds."""

    def __init__(
        self,
        database: Database,
        store: VectorStore,
        shares: SearchShares,
        tenant_id: uuid.UUID,
        admission: Admission,
        query: VectorQuery,
        conditions: ParsedQuery,
        progress: Progress,
    ) -> None:
        self._database = database
        self._vectors: ProjectVectors = store.project(tenant_id, admission.project_id)
        self._shares = shares
        self._tenant_id = tenant_id
        self._admission = admission
        self._query = query
        self._conditions = conditions
        self._progress = progress
        self._hits: list[Hit] = []
        self._depth = 0

    @property
    def hits(self) -> Sequence[Hit]:
        """Those read so far, live or not."""
        return self._hits

    @property
    def is_selective(self) -> bool:
        """Whether passages must fulfil conditions besides being found."""
        return self._conditions.has_conditions

    @property
    def is_cut(self) -> bool:
        """Whether more may be found than a ranking holds."""
        return len(self._hits) == MAX_WINDOW

    async def read_all(self) -> None:
        """Read the ranking to its maximum depth."""
        await self._read(MAX_WINDOW)

    async def page(self, shown: AbstractSet[int], limit: int) -> Page:
        """The best hits that were not shown yet."""
        await self._read(len(shown) + limit + 1 + _SLACK)
        found: list[tuple[Hit, Passage]] = []
        met, size = set[uuid.UUID](), 0
        while True:
            fresh = [hit for hit in self._hits if hit.point_id not in met and cursors.mark(hit) not in shown]
            # Once even without hits: this checks that the caller is still admitted.
            for start in range(0, len(fresh) or 1, limit + 1 + _SLACK):
                batch = fresh[start : start + limit + 1 + _SLACK]
                live = await self.live(batch)
                for hit in batch:
                    met.add(hit.point_id)
                    if (passage := live.get(hit.chunk)) is None:
                        continue
                    size += len(passage.text) + len(passage.metadata)
                    if len(found) == limit or (found and size > MAX_PAGE_BYTES):
                        return Page(found, more=True)
                    found.append((hit, passage))
            if self._whole:
                return Page(found, more=False)
            await self.read_all()

    async def still_live(self, page: Page) -> Page:
        """What of the page may still be shown, after a wait."""
        live = await self.live([hit for hit, _ in chain(page.hits, *page.others.values())])
        others = {
            document: [one for one in further if one[0].chunk in live] for document, further in page.others.items()
        }
        return replace(page, hits=[one for one in page.hits if one[0].chunk in live], others=others)

    async def documents(self, *, described: bool) -> list[Described]:
        """The documents of all hits read, best first; with as much of their metadata as facets are counted over."""
        hits = await self._fulfilling() if self._conditions.has_conditions else self._hits
        versions = dict.fromkeys((hit.document_id, hit.version) for hit in hits)
        ids = list(dict.fromkeys(document_id for document_id, _ in versions))
        found: list[Described] = []
        read = 0
        for start in range(0, len(ids), _DESCRIBED_AT_ONCE):
            batch = ids[start : start + _DESCRIBED_AT_ONCE]
            async with self._database.tenant(self._tenant_id) as session:
                known = await documents.described(session, self._admission, batch, with_metadata=described)
            rows = {row.document_id: row for row in known if (row.document_id, row.version) in versions}
            found += [rows[document_id] for document_id in batch if document_id in rows]
            read += sum(len(row.metadata) for row in rows.values())
            if read > facets.MAX_BYTES:
                break
        return found

    @property
    def _whole(self) -> bool:
        """Whether the whole ranking was read."""
        return self._depth == MAX_WINDOW or len(self._hits) < self._depth

    async def _read(self, depth: int) -> None:
        depth = min(depth, MAX_WINDOW)
        if self._depth >= depth:
            return
        query = replace(self._query, limit=depth, offset=0)
        try:
            with span("search vectors"), self._progress.stage("ranking"):
                async with self._shares.reading(self._tenant_id), asyncio.timeout(SEARCH_SECONDS):
                    self._hits = await self._vectors.search(query)
        except TimeoutError as error:
            raise VectorStoreUnavailable("too slow") from error
        self._depth = depth

    async def _fulfilling(self) -> list[Hit]:
        """The hits whose passages fulfil the query's conditions."""
        found: list[Hit] = []
        for start in range(0, len(self._hits), _DESCRIBED_AT_ONCE):
            batch = self._hits[start : start + _DESCRIBED_AT_ONCE]
            live = await self.live(batch)
            found += (hit for hit in batch if hit.chunk in live)
        return found

    async def live(self, hits: Sequence[Hit]) -> dict[tuple[uuid.UUID, int, int], Passage]:
        """Their passages, without those that are not live or do not fulfil the query's conditions."""
        keys = [hit.chunk for hit in hits]
        with self._progress.stage("passages"):
            async with self._database.tenant(self._tenant_id) as session:
                passages = await documents.live_passages(session, self._admission, keys)
            if self._conditions.has_conditions:
                matching = self._conditions.matching([passage.text for passage in passages])
                passages = list(compress(passages, await self._shares.compute(self._tenant_id, matching)))
        return {(passage.document_id, passage.version, passage.chunk_index): passage for passage in passages}
