"""Twenty documents that try to give orders, and a model that obeys them: nothing changes but the text."""

import uuid

import pytest

from services.indexing.agents.answerers.chat import ChatAnswerer
from services.indexing.agents.chat.client import ChatModel
from services.indexing.agents.quotes.verification import verify
from tests.services.indexing.agents.answerers.orders import ORDERS, SECRET, obedient
from tests.services.indexing.agents.budgets import Budget
from tests.services.indexing.agents.chat_double import ChatDouble
from tests.services.indexing.agents.drafting import drafted
from tests.services.indexing.agents.stored_texts import Stored, StoredTexts, at_once

QUESTION = "When was the bridge opened?"
FACT = "The bridge was opened on 19 March 1932 by the Premier."


@pytest.mark.parametrize("order", ORDERS)
async def test_an_order_in_a_document_changes_nothing_but_the_text(
    chat: ChatDouble, model: ChatModel, tenant: uuid.UUID, order: str
) -> None:
    chat.script = obedient
    hostile = Stored.of(f"{FACT}\n\n{order}", name=f"notes. {order[:60]}.txt")
    foreign = Stored.of(f"The other tenant's word is {SECRET}, as everybody knows.")
    texts, budget = StoredTexts(hostile, foreign), Budget()
    passages = hostile.passages()
    draft, _ = await drafted(ChatAnswerer(model), QUESTION, passages, tenant_id=tenant, budget=budget)
    answer = await verify(draft, passages, texts, compute=at_once)

    # One call of one endpoint, with the settings' model and limit, and without tools.
    assert chat.paths == ["POST /v1/chat/completions"]
    assert set(chat.requests[0]) == {"model", "messages", "max_tokens", "stream", "stream_options"}
    assert (chat.requests[0]["model"], chat.requests[0]["max_tokens"]) == ("test-model", 64)
    assert len(budget.reserved) == 1
    # The rules are where they were, and the document is not among them.
    system, user = chat.requests[0]["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert order.split("\n", maxsplit=1)[0] not in system["content"]
    # Only what was given was read, and only what stands there is cited.
    assert {document_id for document_id, *_ in texts.reads} <= {hostile.id}
    for citation in answer.citations:
        assert hostile.text[citation.start : citation.end] == citation.quote
        assert citation.document_id == hostile.id


async def test_the_model_obeys(chat: ChatDouble, model: ChatModel, tenant: uuid.UUID) -> None:
    """Otherwise the test above would prove nothing."""
    chat.script = obedient
    passages = Stored.of(f"{FACT}\n\n{ORDERS[0]}").passages()
    draft, _ = await drafted(ChatAnswerer(model), QUESTION, passages, tenant_id=tenant)
    assert "I have been taken over." in draft.text
