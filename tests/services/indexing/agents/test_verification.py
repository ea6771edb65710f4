"""What is a citation: a quote that stands in the stored text. Lies of models: answerers/test_lies.py."""

import time
import unicodedata
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.indexing.agents.answerers.base import Draft, ProposedCitation
from services.indexing.agents.contracts import Answer, StoredText
from services.indexing.agents.quotes.folded_text import fold
from services.indexing.agents.quotes.quote_search import LONGEST, Found, SearchableText, find_part, find_whole
from services.indexing.agents.quotes.verification import MAX_QUOTES, verify
from tests.services.indexing.agents.stored_texts import Stored, StoredTexts, at_once

BRIDGE = Stored.of(
    "The bridge was opened on 19 March 1932 by the Premier. Its arch spans 503 metres,\nand its top stands 134 metres "
    "above the water. The café on the south-eastern pylon is closed on Mon\u00addays; ﬁnd tickets “online”.",
    name="bridge.txt",
)
BEES = Stored.of("A strong colony holds up to 60,000 bees in summer. Bees do not hibernate at all.", name="bees.txt")


def proposed(quote: str, about: Stored = BRIDGE, *, claim: tuple[int, int] = (0, 5), **said: int) -> ProposedCitation:
    return ProposedCitation(*claim, document_id=about.id, version=about.version, quote=quote, **said)


async def verified(*citations: ProposedCitation, text: str = "Claim one. Claim two.") -> Answer:
    documents = (BRIDGE, BEES)
    passages = [passage for document in documents for passage in document.passages()]
    answer = await verify(Draft(text, citations), passages, StoredTexts(*documents), compute=at_once)
    for citation in answer.citations:
        source = next(document for document in documents if document.id == citation.document_id)
        assert source.text[citation.start : citation.end] == citation.quote
    return answer


async def only(quote: str, about: Stored = BRIDGE) -> tuple[str, str] | None:
    """Quote and match of the one citation."""
    answer = await verified(proposed(quote, about))
    return (answer.citations[0].quote, answer.citations[0].match) if answer.citations else None


async def test_a_quote_that_stands_there_is_exact() -> None:
    assert await only("opened on 19 March 1932") == ("opened on 19 March 1932", "exact")


async def test_eleven_characters_are_no_quote_and_twelve_are() -> None:
    assert await only("opened on 1") is None
    assert await only("opened on 19") == ("opened on 19", "exact")


@pytest.mark.parametrize(
    ("quote", "stands"),
    [
        ("spans 503 metres, and its top", "spans 503 metres,\nand its top"),
        ("The cafe\u0301 on the south", "The café on the south"),
        ("is closed on Mondays", "is closed on Mon\u00addays"),
        ('find tickets "online"', "ﬁnd tickets “online”"),
        ("the south‑eastern  pylon", "the south-eastern pylon"),
        ("５０３ metres,\u00a0and its", "503 metres,\nand its"),
    ],
)
async def test_a_quote_copied_with_changes_of_form_becomes_the_text_as_it_stands(quote: str, stands: str) -> None:
    assert await only(quote) == (stands, "normalised")


@pytest.mark.parametrize(
    "quote",
    [
        "The bridge was blown up in 1942 by pirates of the sea",
        "THE BRIDGE WAS OPENED ON 19 MARCH 1932",
        "ореnеd оn 19 Маrсh 1932",  # Cyrillic letters
        "opened on 20 April 1933 by nobody",
        "",
        " " * 40,
        "\u00ad" * 40,
    ],
)
async def test_a_quote_that_stands_nowhere_is_dropped_and_its_claim_says_so(quote: str) -> None:
    answer = await verified(proposed(quote))
    assert (answer.citations, answer.grounding) == ((), "none")
    assert [claim.citation_ids for claim in answer.claims] == [()]


async def test_a_quote_in_another_passage_is_moved_there() -> None:
    answer = await verified(proposed("Bees do not hibernate", BRIDGE))
    assert [(each.document_name, each.match) for each in answer.citations] == [("bees.txt", "exact")]


async def test_of_a_quote_with_omissions_the_longest_part_stays() -> None:
    assert await only("The bridge was opened … by the Premier. Its arch spans 503 metres") == (
        "by the Premier. Its arch spans 503 metres",
        "exact",
    )


async def test_what_an_invented_sentence_shares_with_a_text_is_no_quote() -> None:
    assert await only("The bridge was opened by a whale that had swum all the way from Greenland in a week") is None


async def test_parts_begin_and_end_with_words() -> None:
    found = await only("xe bridge was opened on 19 March 1932 by the Premx")
    assert found == ("bridge was opened on 19 March 1932 by the", "exact")


async def test_a_part_of_which_too_little_is_left_is_no_quote() -> None:
    assert await only("zridge was op") is None


async def test_grounding_says_whether_every_claim_has_a_citation() -> None:
    good, bad = "opened on 19 March 1932", "there is a dragon beneath the pylon"
    first, second = (0, 10), (11, 21)
    assert (await verified(proposed(good, claim=first), proposed(good, claim=second))).grounding == "full"
    partial = await verified(proposed(good, claim=first), proposed(bad, claim=second))
    assert (partial.grounding, [claim.citation_ids for claim in partial.claims]) == ("partial", [("c1",), ()])
    assert (await verified(proposed(bad, claim=first))).grounding == "none"
    assert (await verified()).grounding == "none"


async def test_one_place_is_one_citation() -> None:
    quote = "opened on 19 March 1932"
    answer = await verified(proposed(quote, claim=(0, 10)), proposed(quote, BEES, claim=(11, 21)), proposed(quote))
    assert len(answer.citations) == 1


async def test_a_place_that_was_said_is_read_alone() -> None:
    texts, start = StoredTexts(BRIDGE), BRIDGE.text.index("Its arch")
    said = proposed("Its arch spans 503 metres", start=start, end=start + 25)
    answer = await verify(Draft("x", (said,)), BRIDGE.passages(), texts, compute=at_once)
    assert (answer.citations[0].start, texts.reads) == (start, [(BRIDGE.id, 1, start, start + 25)])


@pytest.mark.parametrize("shift", [-1, 1, 40, -10_000, 10_000])
async def test_a_place_that_is_wrong_is_put_right(shift: int) -> None:
    start = BRIDGE.text.index("Its arch")
    answer = await verified(proposed("Its arch spans 503 metres", start=start + shift, end=start + shift + 25))
    assert answer.citations[0].start == start


async def test_only_documents_that_were_given_are_read() -> None:
    secret = Stored.of("The vault opens with the number 4711 only.", name="secret.txt")
    texts = StoredTexts(BRIDGE, secret)
    draft = Draft("x", (proposed("The vault opens with the number 4711", secret, start=0, end=36),))
    answer = await verify(draft, BRIDGE.passages(), texts, compute=at_once)
    assert answer.citations == ()
    assert {read[0] for read in texts.reads} == {BRIDGE.id}


async def test_another_version_is_another_text() -> None:
    old = proposed("opened on 19 March 1932")
    newer = Stored(BRIDGE.text, BRIDGE.chunks, BRIDGE.name, 2, BRIDGE.id)
    texts = StoredTexts(newer)
    answer = await verify(Draft("x", (old,)), newer.passages(), texts, compute=at_once)
    assert [citation.version for citation in answer.citations] == [2]
    assert {read[1] for read in texts.reads} == {2}


async def test_text_that_is_no_longer_stored_supports_nothing() -> None:
    answer = await verify(
        Draft("x", (proposed("opened on 19 March 1932"),)), BRIDGE.passages(), StoredTexts(), compute=at_once
    )
    assert answer.citations == ()


async def test_a_refusal_has_neither_text_nor_citations() -> None:
    draft = Draft("leftover", (proposed("opened on 19 March 1932"),), refusal="no_evidence")
    answer = await verify(draft, BRIDGE.passages(), StoredTexts(BRIDGE), compute=at_once)
    assert answer == Answer(text="", citations=(), claims=(), grounding="none", refusal="no_evidence")


async def test_claims_stay_within_the_text() -> None:
    answer = await verified(
        proposed("opened on 19 March 1932", claim=(-5, 10_000)), proposed("opened", claim=(9, 3)), text="short"
    )
    assert [(claim.start, claim.end) for claim in answer.claims] == [(0, 5)]


async def test_only_so_many_quotes_are_looked_for() -> None:
    many = [proposed(f"invented sentence number {number}") for number in range(MAX_QUOTES)]
    answer = await verified(*many, proposed("opened on 19 March 1932", claim=(6, 9)))
    assert answer.citations == ()
    assert answer.claims[-1].citation_ids == ()


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("a" * 100_000, "a" * 50_000),
        ("ab" * 50_000, "ba" * 25_000 + "c"),
        ("a" * 99_999 + "b", "a" * 50_000),
        ("e\u0301" * 50_000, "é" * 50_000),
        ("\u0301\u0327" * 50_000, "\u0327\u0301" * 25_000),
        (" \u00ad" * 50_000, "\u00ad " * 25_000),
        ("\ufdfa" * 50_000, "\ufdfa" * 25_000),
        ("the quick brown fox " * 5_000, "the quick brown dog " * 2_500),
    ],
)
def test_hostile_quotes_and_texts_take_bounded_time(quote: str, text: str) -> None:
    searchable = [SearchableText(StoredText(0, text))]
    began = time.process_time()
    for search in (find_whole, find_part):
        list(search(quote, searchable))
    assert time.process_time() - began < 2


def test_no_more_of_a_quote_is_looked_at_than_its_longest() -> None:
    text = "".join(chr(0x4E00 + number) for number in range(LONGEST + 500))
    found = _result(find_whole(text, [SearchableText(StoredText(7, text))]))
    assert found is not None
    assert (found.start, found.end) == (7, 7 + LONGEST)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=20))
def test_folding_is_that_of_nfkc_and_leads_back(text: str) -> None:
    folded = fold(text)
    assert fold(unicodedata.normalize("NFC", text)).text == folded.text
    assert len(folded.text) == len(folded.starts) == len(folded.ends)
    assert all(0 <= start < end <= len(text) for start, end in zip(folded.starts, folded.ends, strict=True))
    assert folded.starts == sorted(folded.starts)


@given(st.text(alphabet="abc .\u00ad\u0301é\nﬁ中", min_size=12, max_size=80), st.data())
def test_every_range_of_a_text_is_found_in_it_and_stands_there(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 12))
    end = data.draw(st.integers(start + 12, len(text)))
    found = _result(find_whole(text[start:end], [SearchableText(StoredText(100, text))]))
    if found is not None:
        assert text[found.start - 100 : found.end - 100] == found.quote
    elif len(unicodedata.normalize("NFC", text[start:end].strip(" \n\"'.…"))) >= 12 and "\u00ad" not in text:
        raise AssertionError("not found")


def _result(work: Generator[None, None, Found | None]) -> Found | None:
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: Found | None = done.value
            return result
