"""The agent `summarise`: what a document, or the documents that match a filter, say in a few sentences."""

from typing import Final

from services.indexing.agents.agent import Agent, BudgetLimits
from services.indexing.agents.contracts import Answer, SummariseInput
from services.indexing.agents.graph import NEXT, Graph
from services.indexing.agents.steps.summarise import arrange, gather, summarise
from services.indexing.agents.steps.verify import verify

SUMMARISE: Final = Agent(
    name="summarise",
    version=1,
    description="Summarises a document, or those that match a filter, by their most central sentences, each cited.",
    input=SummariseInput,
    output=Answer,
    budget=BudgetLimits(seconds=60.0, model_calls=0, model_tokens=0),
    graph=Graph(
        first="retrieve",
        steps={"retrieve": gather, "select": arrange, "answer": summarise, "verify": verify},
        edges={("retrieve", NEXT): "select", ("select", NEXT): "answer", ("answer", NEXT): "verify"},
        result="verify",
    ),
)
