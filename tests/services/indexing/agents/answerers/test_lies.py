"""A thousand answers that lie, streamed over HTTP with their tags split anywhere: no citation that does not stand in
the stored text, and none of a text that was not given."""

import asyncio
import random
import uuid
from collections import Counter
from typing import Any

from services.indexing.agents.answerers.chat import ChatAnswerer
from services.indexing.agents.chat.client import opened
from services.indexing.agents.contracts import Answer
from tests.services.indexing.agents.answerers.lies import FOREIGN, LIES, UNGIVEN
from tests.services.indexing.agents.answerers.prompts import passages_of, question_of
from tests.services.indexing.agents.chat_double import ChatDouble, Reply, model_settings
from tests.services.indexing.agents.drafting import answered
from tests.services.indexing.agents.stored_texts import Stored, StoredTexts

ANSWERS = 1_000
AT_ONCE = 8

GIVEN = (
    Stored.of(
        "The bridge was opened on 19 March 1932 by the Premier. Its arch spans 503 metres, and its top stands 134 "
        "metres above the water. Sixteen of the 1,400 workers died. The granite of the pylons came from Moruya.\n\n"
        "The pylons carry no load; they were added because the public wanted to see something solid at both ends. "
        "Most of the steel was imported from England, and six million rivets hold it together.",
        capacity=230,
        name="bridge.txt",
    ),
    Stored.of(
        "A strong colony holds up to 60,000 bees in summer and about 10,000 in winter. Bees do not hibernate: they "
        "gather around the queen and shiver to keep warm. The café “Bienenstock” sells hon\u00adey at 7 ½ euros; ﬁve "
        "jars cost less. 蜜蜂在冬天聚集在蜂王周围取暖,并不冬眠。",
        capacity=160,
        name="bees.txt",
    ),
)
OTHERS = (Stored.of(UNGIVEN, name="other.txt"), Stored.of(FOREIGN, name="foreign.txt"))
QUOTES = dict[str, list[str]]


def lying(body: dict[str, Any]) -> Reply:
    """An answer of a kind and a seed that the question names."""
    kind, seed = question_of(body).split()
    draw = random.Random(int(seed))
    passages = passages_of(body)
    quotes = LIES[kind].make(draw, passages)
    text = "".join(
        f'Statement {place} of it. <cite passage="{number}">{quote}</cite> '
        for place, (number, quote) in enumerate(quotes)
    )
    cuts = sorted(draw.choices(range(len(text) + 1), k=min(30, len(text))))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return Reply(parts, step=draw.choice([None, None, 40]))


async def test_no_lie_becomes_a_citation(chat: ChatDouble) -> None:
    chat.script = lying
    passages = [passage for document in GIVEN for passage in document.passages()]
    # Stored, but of other documents and tenants: nothing may be read of them.
    texts = StoredTexts(*GIVEN, *OTHERS)
    kinds = list(LIES)
    met: Counter[tuple[str, str]] = Counter()
    async with opened("liar", model_settings(chat, max_tokens=4096, concurrency=2 * AT_ONCE)) as model:
        answerer = ChatAnswerer(model)

        async def ask(numbers: range) -> None:
            for number in numbers:
                kind = kinds[number % len(kinds)]
                answer = await answered(answerer, f"{kind} {number}", passages, texts, tenant_id=uuid.uuid4())
                check(kind, number, answer)
                met.update((kind, citation.match) for citation in answer.citations)

        await asyncio.gather(*(ask(range(first, ANSWERS, AT_ONCE)) for first in range(AT_ONCE)))
    assert len(chat.requests) == ANSWERS
    assert {document_id for document_id, *_ in texts.reads} == {document.id for document in GIVEN}
    assert met["honest", "exact"] and met["moved", "exact"] and met["full_width", "normalised"]


def check(kind: str, seed: int, answer: Answer) -> None:
    where = f"{kind} {seed}"
    sources = {(document.id, document.version): document for document in GIVEN}
    for citation in answer.citations:
        text = sources[citation.document_id, citation.version].text
        assert text[citation.start : citation.end] == citation.quote, where
        assert len(citation.quote) >= 12, where
        assert not any(word in citation.quote for word in ("ZANZIBAR", "PERIWINKLE")), where
    known = {citation.id for citation in answer.citations}
    assert all(known.issuperset(claim.citation_ids) for claim in answer.claims), where
    holds = LIES[kind].holds
    if holds is not None:
        assert bool(answer.citations) == holds, where
        assert answer.grounding == ("full" if holds else "none"), where
