"""The agent `answer`: a question about documents, answered with citations."""

from typing import Final

from services.indexing.agents.agent import Agent, BudgetLimits
from services.indexing.agents.contracts import Answer, AnswerInput
from services.indexing.agents.graph import NEXT, Graph
from services.indexing.agents.steps.answer import answer
from services.indexing.agents.steps.plan import plan_answer
from services.indexing.agents.steps.retrieve import retrieve
from services.indexing.agents.steps.select import select
from services.indexing.agents.steps.verify import UNSUPPORTED, verify

ANSWER: Final = Agent(
    name="answer",
    version=1,
    description="Answers a question from the documents of a project, with citations found in their stored text.",
    input=AnswerInput,
    output=Answer,
    budget=BudgetLimits(seconds=60.0, model_calls=2, model_tokens=32_000),
    graph=Graph(
        first="plan",
        steps={
            "plan": plan_answer,
            "retrieve": retrieve,
            "select": select,
            "answer": answer,
            "verify": verify,
            "repair": answer,
        },
        edges={
            ("plan", NEXT): "retrieve",
            ("retrieve", NEXT): "select",
            ("select", NEXT): "answer",
            ("answer", NEXT): "verify",
            ("verify", UNSUPPORTED): "repair",
            ("repair", NEXT): "verify",
        },
        result="verify",
        rewrites=frozenset({"repair"}),
    ),
)
