from services.indexing.agents.answerers import sentences
from tests.services.indexing.agents.stored_texts import Stored, at_once


async def test_a_sentence_knows_its_place_and_what_is_beside_it() -> None:
    text = "Opening hours of the museum\n\nIt opens at nine in the morning. On Mondays it is closed all day."
    stored = Stored.of(text)
    found = await at_once(sentences.of_passages(stored.passages(), language=None, most=10))
    assert [(each.heading, text[each.start : each.end] == each.text) for each in found] == [
        (True, True),
        (False, True),
        (False, True),
    ]
    assert found[2].beside == "Opening hours of the museum It opens at nine in the morning."


async def test_repeated_sentences_and_those_too_short_to_be_quoted_are_left_out() -> None:
    stored = Stored.of("The same sentence again. Yes it is. The same sentence again. No.")
    found = await at_once(sentences.of_passages(stored.passages(), language=None, most=10))
    assert [each.text for each in found] == ["The same sentence again."]
