"""The agent `extract`: values for the fields of a schema, each with its quotes."""

from typing import Final

from services.indexing.agents.agent import Agent, BudgetLimits
from services.indexing.agents.contracts import ExtractInput, Extraction
from services.indexing.agents.graph import NEXT, Graph
from services.indexing.agents.steps.extract import extract, plan_extract, verify_fields
from services.indexing.agents.steps.retrieve import retrieve
from services.indexing.agents.steps.select import select

EXTRACT: Final = Agent(
    name="extract",
    version=2,
    description="Fills in the fields of a schema with what the documents say; each value has a quote, or is null.",
    input=ExtractInput,
    output=Extraction,
    budget=BudgetLimits(seconds=60.0, model_calls=2, model_tokens=32_000),
    graph=Graph(
        first="plan",
        steps={
            "plan": plan_extract,
            "retrieve": retrieve,
            "select": select,
            "extract": extract,
            "verify": verify_fields,
        },
        edges={
            ("plan", NEXT): "retrieve",
            ("retrieve", NEXT): "select",
            ("select", NEXT): "extract",
            ("extract", NEXT): "verify",
        },
        result="verify",
    ),
    needs_model=True,
)
