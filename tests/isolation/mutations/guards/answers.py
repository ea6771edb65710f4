"""Guards of answers: quotes are verified, and a chat model has bounds."""

from tests.isolation.mutations.model import Mutation, replace

_HERE = "services/indexing/agents"
_TESTS = "tests/services/indexing/agents"
_VERIFICATION = f"{_TESTS}/test_verification.py"
_FORMS = "tests/services/indexing/agents/test_forms.py"
_CHAT = f"{_TESTS}/test_chat.py"

MUTATIONS = (
    Mutation(
        "answers-quote-in-place",
        "a quote stands where it is said to stand, or elsewhere, and nowhere else",
        replace(
            f"{_HERE}/quotes/verification.py",
            "if (stored.start, stored.text) == (start, proposed.quote):",
            "if stored.start == start:",
        ),
        [f"{_VERIFICATION}::test_a_place_that_is_wrong_is_put_right"],
    ),
    Mutation(
        "answers-quote-in-part",
        "what an invented sentence shares with a text is no quote",
        replace(f"{_HERE}/quotes/quote_search.py", "if 2 * covered >= len(folded) > 0", "if covered > 0"),
        [f"{_VERIFICATION}::test_what_an_invented_sentence_shares_with_a_text_is_no_quote"],
    ),
    Mutation(
        "answers-quote-length",
        "a few characters are no quote",
        replace(f"{_HERE}/quotes/quote_search.py", "if length(text) < SHORTEST:", "if not text:"),
        [f"{_VERIFICATION}::test_a_part_of_which_too_little_is_left_is_no_quote"],
    ),
    Mutation(
        "answers-quote-given",
        "only documents that an answer was given are read for its quotes",
        replace(
            f"{_HERE}/quotes/verification.py",
            "if start is None or end is None or (proposed.document_id, proposed.version) not in self._passages:",
            "if start is None or end is None:",
        ),
        [f"{_VERIFICATION}::test_only_documents_that_were_given_are_read"],
    ),
    Mutation(
        "answers-quotes-counted",
        "only so many quotes of an answer are looked for",
        replace(f"{_HERE}/quotes/verification.py", "if number < MAX_QUOTES else None", "if number >= 0 else None"),
        [f"{_VERIFICATION}::test_only_so_many_quotes_are_looked_for"],
    ),
    Mutation(
        "answers-form-keywords",
        "a schema to be filled in has only keywords whose cost is bounded",
        replace(f"{_HERE}/forms.py", "if unknown := sorted(schema.keys() - keywords - _NOTES):", "if unknown := []:"),
        [f"{_FORMS}::test_what_is_no_form_is_refused_by_name"],
    ),
    Mutation(
        "answers-form-endless",
        "a schema to be filled in does not refer to itself",
        replace(f"{_HERE}/forms.py", "        if name in seen:\n", "        if False:\n"),
        [f"{_FORMS}::test_what_is_no_form_is_refused_by_name"],
    ),
    Mutation(
        "answers-form-fields",
        "a schema to be filled in has only so many fields, all references written out",
        replace(f"{_HERE}/forms.py", "if self._fields > MOST_FIELDS or depth", "if depth"),
        [f"{_FORMS}::test_a_schema_that_is_long_once_written_out_costs_little"],
    ),
    Mutation(
        "answers-form-size",
        "a schema to be filled in is bounded in size",
        replace(f"{_HERE}/forms.py", "if len(text) > LONGEST or ", "if "),
        [f"{_FORMS}::test_what_is_no_form_is_refused_by_name"],
    ),
    Mutation(
        "answers-quote-bounded",
        "only so much of a quote is looked for",
        replace(f"{_HERE}/quotes/quote_search.py", "quote = quote[:LONGEST].strip()", "quote = quote.strip()"),
        [f"{_VERIFICATION}::test_no_more_of_a_quote_is_looked_at_than_its_longest"],
    ),
    Mutation(
        "answers-quote-places",
        "a quote is compared with so many places of a text only",
        replace(f"{_HERE}/quotes/quote_search.py", "if len(found) < _MOST_PLACES:", "if True:"),
        [f"{_VERIFICATION}::test_hostile_quotes_and_texts_take_bounded_time"],
    ),
    Mutation(
        "answers-model-redirects",
        "a chat model's redirects are not followed",
        replace(f"{_HERE}/chat/client.py", "allow_redirects=False", "allow_redirects=True"),
        [f"{_CHAT}::test_redirects_are_not_followed"],
    ),
    Mutation(
        "answers-model-size",
        "a chat model's response is bounded in size",
        replace(f"{_HERE}/chat/stream.py", "if self._left < 0:", "if False:"),
        [f"{_CHAT}::test_a_response_is_bounded_in_size"],
    ),
    Mutation(
        "answers-model-line",
        "a line of a chat model's response is bounded",
        replace(f"{_HERE}/chat/stream.py", "if searched > LONGEST_LINE:", "if False:"),
        [f"{_CHAT}::test_a_line_is_bounded_whatever_the_whole_may_be"],
    ),
    Mutation(
        "answers-model-compression",
        "a compressed response of a chat model is refused",
        replace(
            f"{_HERE}/chat/client.py",
            ' or response.headers.get("Content-Encoding", "identity") != "identity"',
            "",
        ),
        [f"{_CHAT}::test_a_compressed_response_is_refused"],
    ),
    Mutation(
        "answers-model-budget",
        "a call of a chat model is reserved from the run's budget in full",
        replace(
            f"{_HERE}/chat/client.py",
            "_Reserved(budget, self.settings.max_tokens + _most_tokens(messages))",
            "_Reserved(budget, 1)",
        ),
        [f"{_CHAT}::test_no_call_is_made_beyond_the_budget"],
    ),
    Mutation(
        "answers-model-silence",
        "comments do not keep a silent chat model's call going",
        replace(
            f"{_HERE}/chat/stream.py",
            "async with asyncio.timeout(min(seconds, _SECONDS_AFTER_TEXT) if self._finished else seconds):",
            "async with asyncio.timeout(None):",
        ),
        [f"{_CHAT}::test_a_response_that_breaks_off_fails_and_is_not_asked_for_again"],
    ),
    Mutation(
        "answers-model-share",
        "no tenant has all calls of a chat model",
        replace(f"{_HERE}/chat/client.py", "each=max(1, settings.concurrency // 2)", "each=settings.concurrency"),
        [f"{_CHAT}::test_no_tenant_has_all_places"],
    ),
    Mutation(
        "answers-prompt-word",
        "a document cannot end its own passage in a prompt",
        replace(f"{_HERE}/answerers/chat.py", "word = secrets.token_hex(8)", 'word = "0000"'),
        [f"{_TESTS}/answerers/test_chat_answerer.py::test_a_passage_cannot_end_itself"],
    ),
)
