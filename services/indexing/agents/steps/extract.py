"""Filling in the fields of a schema, and keeping what the documents say."""

from services.indexing.agents.contracts import ExtractInput, Extraction, Grounding
from services.indexing.agents.graph import StepContext, StepResult
from services.indexing.agents.runs.errors import ModelRequired
from services.indexing.agents.steps.answer import draft_of, stored_draft
from services.indexing.agents.steps.plan import MOST_CANDIDATES, MOST_QUERY
from services.indexing.agents.steps.select import selected
from shared.events.indexing import RunCitationVerified


async def plan_extract(context: StepContext) -> StepResult:
    """The names of the fields, and what is said of them, are the query."""
    fields = ExtractInput.model_validate(context.run.input).schema_.properties
    words = [word for name, field in fields.items() for word in (name.replace("_", " "), field.description or "")]
    query = " ".join(word for word in words if word)[:MOST_QUERY]
    return StepResult({"query": query, "filter": context.run.input.get("filter"), "limit": MOST_CANDIDATES})


async def extract(context: StepContext) -> StepResult:
    """What the model fills in."""
    asked = ExtractInput.model_validate(context.run.input)
    if context.writing.extract is None:
        raise ModelRequired
    filled = await context.writing.extract(
        asked.schema_.properties,
        await selected(context),
        tenant_id=context.run.tenant_id,
        language=asked.language,
        budget=context.budget,
    )
    return StepResult({"values": filled.values, "draft": stored_draft(filled.draft)}, usage=filled.usage)


async def verify_fields(context: StepContext) -> StepResult:
    """The values whose quotes were found; the others are null, as are those that the model did not find."""
    fields = ExtractInput.model_validate(context.run.input).schema_.properties
    output = context.outputs["extract"]
    draft = draft_of(output["draft"])
    found = await context.writing.verify(
        draft, await selected(context), context.knowledge, tenant_id=context.run.tenant_id
    )
    cited = {draft.text[claim.start : claim.end]: claim.citation_ids for claim in found.claims}
    supported = {name: cited.get(name, ()) for name in fields}
    extraction = Extraction(
        values={name: output["values"].get(name) if supported[name] else None for name in fields},
        citations=found.citations,
        fields=supported,
        grounding=_grounding(len(output["values"]), sum(1 for ids in supported.values() if ids)),
        refusal=found.refusal,
    )
    return StepResult(
        extraction.model_dump(mode="json"),
        events=tuple(
            (RunCitationVerified, {"citation": citation.model_dump(mode="json")}) for citation in found.citations
        ),
    )


def _grounding(filled: int, cited: int) -> Grounding:
    if not cited:
        return "none"
    return "full" if cited == filled else "partial"
