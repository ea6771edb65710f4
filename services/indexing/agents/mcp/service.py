"""What the tools do: search and read what indexing has, and list what the projects service has.

Everything is done as the caller, with its scopes and its roles at this moment: `search` for searching and asking,
`documents:read` for reading and listing documents, `projects:read` for listing projects. A document's text is data:
nothing in it decides what is done.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from services.indexing.agents import asking
from services.indexing.agents.asking import Runs
from services.indexing.agents.contracts import Answer, Citation
from services.indexing.agents.mcp.errors import ProjectRequired, RunFailed
from services.indexing.agents.mcp.identifiers import Identifier
from services.indexing.agents.mcp.projects_client import Caller, ProjectsClient
from services.indexing.agents.mcp.schemas import (
    MOST_CHARACTERS,
    MOST_DESCRIPTION,
    MOST_LISTED,
    MOST_METADATA,
    AskCitation,
    AskInput,
    AskOutput,
    FetchInput,
    FetchOutput,
    ListDocumentsInput,
    ListDocumentsOutput,
    ListedDocument,
    ListedProject,
    ListProjectsInput,
    ListProjectsOutput,
    SearchInput,
    SearchOutput,
    SearchResult,
)
from services.indexing.agents.runs.schemas import AskRequest
from services.indexing.documents import stored_text
from services.indexing.documents.errors import VersionReplaced
from services.indexing.search import service as searches
from services.indexing.search.engine import SearchEngine
from services.indexing.search.schemas import SearchRequest
from shared.auth import Scope
from shared.deferred_parsing import Unparsed
from shared.errors import Forbidden, NotFound
from shared.problems import shown
from shared.project_access import Admission
from shared.transactions import TenantTransactions

# What comes before a passage helps to understand it.
_CHUNKS_BEFORE: Final = 4
_NAMED_PROJECTS: Final = 10


@dataclass(frozen=True, slots=True)
class Services:
    """What the tools need of the running service."""

    search: SearchEngine
    runs: Runs
    projects: ProjectsClient


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls a tool, by which request. `public_url`: where the caller reaches Quarry, for links."""

    caller: Caller
    public_url: str
    request_id: str

    def link(self, project_id: object, document_id: object) -> str:
        """The address of a document's content; opening it takes a credential as well."""
        return f"{self.public_url}/v1/projects/{project_id}/documents/{document_id}/content"


async def search(tools: Services, call: Call, given: SearchInput) -> SearchOutput:
    """Passages of a project for a query.

    Raises:
        ProjectRequired: none is named, and there is not exactly one.
        others: see `services.indexing.search.service.search`.
    """
    project_id = await _project(tools, call, given.project_id)
    fields = given.model_dump(mode="json", include={"query", "mode", "limit", "filter", "cursor"})
    request = Unparsed(orjson.dumps(fields), SearchRequest)
    found = orjson.loads(
        await searches.search(tools.search, call.caller.principal, project_id=project_id, request=request)
    )
    return SearchOutput(
        results=[_result(call, project_id, item) for item in found["items"]],
        next_cursor=found["next_cursor"],
        partial=found["partial"],
    )


def _result(call: Call, project_id: uuid.UUID, item: Mapping[str, Any]) -> SearchResult:
    document_id, version, chunk = uuid.UUID(item["document_id"]), item["version"], item["chunk_index"]
    return SearchResult(
        id=str(Identifier(project_id, document_id, version, chunk)),
        title=item["document_name"],
        text=item["text"],
        url=call.link(project_id, document_id),
        project_id=project_id,
        document_id=document_id,
        version=version,
        chunk_index=chunk,
        page=item["page"],
        score=item["score"],
        metadata=_small(item["metadata"]),
    )


async def ask(tools: Services, call: Call, given: AskInput) -> AskOutput:
    """The answer of a run of the agent `answer`, or what there is of it when it takes longer than a tool may.

    Raises:
        ProjectRequired: no project is named, and there is not exactly one.
        RunFailed: it ended without an answer.
        others: see `services.indexing.agents.asking.ask`; `ValidationError` for the filter or the language.
    """
    project_id = await _project(tools, call, given.project_id)
    principal = call.caller.principal
    fields = given.model_dump(mode="json", exclude_none=True, include={"question", "filter", "language"})
    request = AskRequest.model_validate({**fields, "stream": False})
    if principal.tenant_id is None:
        raise Forbidden("Choose an active tenant first.")
    transactions = TenantTransactions(tools.search.database, principal.tenant_id, principal.user_id, call.request_id)
    run = await asking.ask(tools.runs, transactions, principal, project_id=project_id, request=request)
    if run.error is not None or run.status == "cancelled":
        raise RunFailed(run.error.reason if run.error is not None else "The run was cancelled.")
    answer = None if run.output is None else Answer.model_validate(run.output)
    return AskOutput(
        run_id=run.id,
        status=run.status,
        exhausted=run.exhausted,
        text=None if answer is None or answer.refusal is not None else answer.text,
        refusal=None if answer is None else answer.refusal,
        grounding=None if answer is None else answer.grounding,
        citations=[] if answer is None else [_citation(call, project_id, item) for item in answer.citations],
    )


def _citation(call: Call, project_id: uuid.UUID, cited: Citation) -> AskCitation:
    return AskCitation(
        id=str(Identifier(project_id, cited.document_id)),
        title=cited.document_name,
        url=call.link(project_id, cited.document_id),
        version=cited.version,
        start=cited.start,
        end=cited.end,
        quote=cited.quote,
        page=cited.page,
        match=cited.match,
    )


async def fetch(tools: Services, call: Call, given: FetchInput) -> FetchOutput:
    """The text of a document: all of it, or the part around the passage that the id names.

    Raises:
        NotFound: the id leads to nothing that the caller may know of, or that is indexed.
        VersionReplaced: it names a version that is no longer the live one.
        Forbidden, Unavailable: see `ProjectDirectory.require`.
    """
    named = Identifier.parse(given.id)
    tenant_id, admission = await _admitted(tools, call, named.project_id)
    async with tools.search.database.tenant(tenant_id) as session:
        document = await stored_text.describe(session, admission, named.document_id)
        if named.version not in (None, document.version):
            current = Identifier(named.project_id, named.document_id)
            raise VersionReplaced(f"{VersionReplaced.detail} The live one is {current}; or search again.")
        first = _first(named, given.from_chunk, document.characters)
        extract = await stored_text.read(
            session, admission, named.document_id, document.version, first=first, most=MOST_CHARACTERS
        )
    return FetchOutput(
        id=given.id,
        title=document.name,
        text=extract.text,
        url=call.link(named.project_id, named.document_id),
        project_id=named.project_id,
        document_id=named.document_id,
        version=document.version,
        content_type=document.content_type,
        created_at=document.created_at,
        start=extract.start,
        end=extract.end,
        characters=document.characters,
        next_chunk=extract.next_chunk,
        metadata=_small(orjson.loads(document.metadata)),
    )


def _first(named: Identifier, from_chunk: int | None, characters: int) -> int:
    if from_chunk is not None:
        return from_chunk
    if named.chunk is None or characters <= MOST_CHARACTERS:
        return 0
    return max(0, named.chunk - _CHUNKS_BEFORE)


async def list_projects(tools: Services, call: Call, given: ListProjectsInput) -> ListProjectsOutput:
    """Projects that the caller may see.

    Raises:
        Forbidden, InvalidRequest, Unavailable: see `ProjectsClient`.
    """
    page = await tools.projects.projects(call.caller, limit=given.limit, cursor=given.cursor)
    return ListProjectsOutput(
        projects=[
            ListedProject(
                id=item["id"],
                name=item["name"],
                description=shown(item["description"], MOST_DESCRIPTION),
                role=item["role"],
                document_count=item["document_count"],
                updated_at=item["updated_at"],
            )
            for item in page["items"]
        ],
        next_cursor=page["next_cursor"],
    )


async def list_documents(tools: Services, call: Call, given: ListDocumentsInput) -> ListDocumentsOutput:
    """Documents of a project.

    Raises:
        ProjectRequired: none is named, and there is not exactly one.
        NotFound, Forbidden, InvalidRequest, Unavailable: see `ProjectsClient`.
    """
    project_id = await _project(tools, call, given.project_id)
    # What is passed on lacks scopes by which the caller may know of the project: here it is told from one it may not.
    await _admitted(tools, call, project_id)
    page = await tools.projects.documents(
        call.caller, project_id, status=given.status, name=given.name, limit=given.limit, cursor=given.cursor
    )
    return ListDocumentsOutput(
        project_id=project_id,
        documents=[
            ListedDocument(
                id=str(Identifier(project_id, uuid.UUID(item["id"]))),
                name=item["name"],
                document_id=item["id"],
                version=item["version"],
                status=item["status"],
                content_type=item["content_type"],
                size=item["size"],
                created_at=item["created_at"],
                indexed_at=item["indexed_at"],
                metadata=_small(item["metadata"]),
            )
            for item in page["items"]
        ],
        next_cursor=page["next_cursor"],
    )


async def _admitted(tools: Services, call: Call, project_id: uuid.UUID) -> tuple[uuid.UUID, Admission]:
    """The caller's tenant, and its permission to read the documents of a project."""
    principal, engine = call.caller.principal, tools.search
    if principal.tenant_id is None:
        raise Forbidden("Choose an active tenant first.")
    admission = await engine.directory.admit(
        engine.database,
        principal,
        tenant_id=principal.tenant_id,
        project_id=project_id,
        scope=Scope.DOCUMENTS_READ,
    )
    return principal.tenant_id, admission


async def _project(tools: Services, call: Call, given: uuid.UUID | None) -> uuid.UUID:
    """The project to work in: the one given, the one the credential is for, or the only one that the caller sees."""
    if given is not None:
        return given
    if call.caller.principal.project_id is not None:
        return call.caller.principal.project_id
    try:
        page = await tools.projects.projects(call.caller, limit=MOST_LISTED)
    except Forbidden as error:
        raise ProjectRequired(f"{ProjectRequired.detail} This credential may not list projects.") from error
    seen = page["items"]
    if not seen:
        raise NotFound("There is no project that you may see.")
    if len(seen) > 1:
        named = ", ".join(f"{item['id']} ({shown(item['name'], 40)})" for item in seen[:_NAMED_PROJECTS])
        raise ProjectRequired(f"{ProjectRequired.detail} You see several: {named}.")
    return uuid.UUID(seen[0]["id"])


def _small(metadata: dict[str, Any]) -> dict[str, Any] | None:
    return metadata if len(orjson.dumps(metadata)) <= MOST_METADATA else None
