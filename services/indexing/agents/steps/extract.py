"""Filling in a form, and keeping what the documents say."""

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from services.indexing.agents import forms
from services.indexing.agents.contracts import ExtractInput, Extraction, Grounding
from services.indexing.agents.forms import Array, Field, Object
from services.indexing.agents.graph import StepContext, StepResult
from services.indexing.agents.runs.errors import ModelRequired
from services.indexing.agents.steps.answer import draft_of, stored_draft
from services.indexing.agents.steps.plan import MOST_CANDIDATES, MOST_QUERY
from services.indexing.agents.steps.select import selected
from shared.events.indexing import RunCitationVerified

_Citations = Mapping[str, tuple[str, ...]]


async def plan_extract(context: StepContext) -> StepResult:
    """The names of the fields, and what is said of them, are the query."""
    query = " ".join(forms.words_of(_form(context)))[:MOST_QUERY]
    return StepResult({"query": query, "filter": context.run.input.get("filter"), "limit": MOST_CANDIDATES})


async def extract(context: StepContext) -> StepResult:
    """What the model fills in."""
    if context.writing.extract is None:
        raise ModelRequired
    filled = await context.writing.extract(
        _form(context),
        await selected(context),
        tenant_id=context.run.tenant_id,
        language=context.run.input.get("language"),
        budget=context.budget,
    )
    output = {"found": filled.found, "count": filled.count, "draft": stored_draft(filled.draft)}
    return StepResult(output, usage=filled.usage)


async def verify_fields(context: StepContext) -> StepResult:
    """The values whose quotes were found; the others are null, as are those that the model did not find."""
    output, form = context.outputs["extract"], _form(context)
    draft = draft_of(output["draft"])
    verified = await context.writing.verify(
        draft, await selected(context), context.knowledge, tenant_id=context.run.tenant_id
    )
    cited = {draft.text[claim.start : claim.end]: claim.citation_ids for claim in verified.claims if claim.citation_ids}
    fields: dict[str, tuple[str, ...]] = {}
    values = {
        name: _kept(part, (output["found"] or {}).get(name), f"/{forms.escaped(name)}", cited, fields)
        for name, part in form.fields.items()
    }
    used = {citation_id for ids in fields.values() for citation_id in ids}
    citations = tuple(citation for citation in verified.citations if citation.id in used)
    extraction = Extraction(
        values=values,
        citations=citations,
        fields=fields,
        grounding=_grounding(output["count"], len(fields)),
        refusal=verified.refusal,
    )
    return StepResult(
        extraction.model_dump(mode="json"),
        events=tuple((RunCitationVerified, {"citation": citation.model_dump(mode="json")}) for citation in citations),
    )


def _form(context: StepContext) -> Object:
    return forms.form_of(ExtractInput.model_validate(context.run.input).schema_)


def _kept(part: Field, found: Any, pointer: str, cited: _Citations, fields: dict[str, tuple[str, ...]]) -> JsonValue:
    """What is left of a field, and into `fields` the citations of each of its values by where these are now."""
    if found is None:
        return None
    match part:
        case Object():
            inner: dict[str, tuple[str, ...]] = {}
            values = {
                name: _kept(child, found.get(name), f"{pointer}/{forms.escaped(name)}", cited, inner)
                for name, child in part.fields.items()
            }
            if not inner or any(values[name] is None for name in part.required):
                return None
            fields |= inner
            return values
        case Array():
            items: list[JsonValue] = []
            for item in found:
                if (kept := _kept(part.items, item, f"{pointer}/{len(items)}", cited, fields)) is not None:
                    items.append(kept)
            return items or None
        case forms.Value():
            if (ids := cited.get(found["at"])) is None:
                return None
            fields[pointer] = ids
            value: JsonValue = found["value"]
            return value


def _grounding(filled: int, cited: int) -> Grounding:
    if not cited:
        return "none"
    return "full" if cited == filled else "partial"
