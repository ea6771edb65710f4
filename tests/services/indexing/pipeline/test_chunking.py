"""Chunks: exact slices that lose no word, fit the model, and keep headings with what they head."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from services.indexing.pipeline import chunking
from services.indexing.pipeline.chunking import CHARACTERS, DENSE_CHARACTERS, FOREIGN_CHARACTERS, chunk
from services.indexing.pipeline.documents import MARKDOWN, PLAIN_TEXT, Chunk, PageSpan

PROSE = "Granite from the eastern face built the harbour wall, which still stands. "

PIECES: SearchStrategy[str] = st.sampled_from(
    [
        "Heading",
        "# Title",
        "word",
        PROSE,
        "\n",
        "\n\n",
        "\n\n\n",
        " ",
        " " * 500,
        "\t",
        "\u0301" * 60,
        "- item\n",
        "| a | b |\n",
        "```\n",
        "日本",
        "x" * 300,
    ]
)


def letters(text: str) -> str:
    return "".join(character for character in text if character.isalnum())


@given(st.lists(PIECES, max_size=120).map("".join), st.sampled_from([PLAIN_TEXT, MARKDOWN]), st.integers(50, 400))
def test_chunks_are_exact_slices_in_order_that_lose_no_word(text: str, content_type: str, capacity: int) -> None:
    chunks = chunk(text, content_type=content_type, capacity=capacity)
    assert [piece.index for piece in chunks] == list(range(len(chunks)))
    assert all(text[piece.start : piece.end] == piece.text and letters(piece.text) for piece in chunks)
    assert all(len(piece.text) <= capacity and piece.text == piece.text.strip() for piece in chunks)
    assert all(above.end <= below.start for above, below in pairwise(chunks))
    assert letters("".join(piece.text for piece in chunks)) == letters(text)
    assert chunks == chunk(text, content_type=content_type, capacity=capacity)


@given(st.text(max_size=3000), st.sampled_from([PLAIN_TEXT, MARKDOWN]))
def test_any_text_is_chunked(text: str, content_type: str) -> None:
    chunks = chunk(text, content_type=content_type, capacity=100)
    assert all(text[piece.start : piece.end] == piece.text and len(piece.text) <= 100 for piece in chunks)


def test_chunks_fill_their_capacity_and_end_at_sentences() -> None:
    chunks = chunk(PROSE * 100, content_type=PLAIN_TEXT)
    assert all(CHARACTERS // 2 < len(piece.text) <= CHARACTERS for piece in chunks[:-1])
    assert all(piece.text.endswith(".") for piece in chunks)


@pytest.mark.parametrize(
    ("sentence", "capacity"),
    [
        (PROSE, CHARACTERS),
        ("Гранит с восточного карьера пошёл на стену гавани. ", FOREIGN_CHARACTERS),
        ("Ο γρανίτης έχτισε το τείχος του λιμανιού. ", FOREIGN_CHARACTERS),
        ("花崗岩が港の壁を築いた。", DENSE_CHARACTERS),
    ],
)
def test_chunks_are_shorter_in_scripts_that_take_more_word_pieces(sentence: str, capacity: int) -> None:
    chunks = chunk(sentence * 100, content_type=PLAIN_TEXT)
    assert capacity // 2 < max(len(piece.text) for piece in chunks) <= capacity


@pytest.mark.parametrize("text", ["", " ", "\n\n\t\n"])
def test_white_space_is_no_chunk(text: str) -> None:
    assert chunk(text, content_type=PLAIN_TEXT) == []


@pytest.mark.parametrize("content_type", [PLAIN_TEXT, MARKDOWN])
@pytest.mark.parametrize("text", ["```\n```", "* * *\n\n---", "?!", "\u0301" * 5000, "_" * 2000])
def test_signs_without_a_word_are_no_chunk(text: str, content_type: str) -> None:
    assert chunk(text, content_type=content_type) == []


def test_signs_join_the_words_beside_them() -> None:
    assert chunk("***\n\nGranite.\n\n***", content_type=MARKDOWN) == [Chunk(0, 0, 18, "***\n\nGranite.\n\n***", None)]


def test_signs_without_room_beside_a_word_are_left_out() -> None:
    fenced = f"```\n{'x ' * 359}y\n```\n\n{PROSE * 9}"
    chunks = chunk(fenced, content_type=MARKDOWN)
    assert all(letters(piece.text) and len(piece.text) <= CHARACTERS for piece in chunks)
    assert letters("".join(piece.text for piece in chunks)) == letters(fenced)


@pytest.mark.parametrize("content_type", [PLAIN_TEXT, MARKDOWN])
@pytest.mark.parametrize("between", [" " * 200_000, "\n \n" * 60_000, "\u00a0\n" * 100_000])
@pytest.mark.parametrize("last", ["", "wall"])
def test_endless_white_space_is_in_no_chunk(between: str, last: str, content_type: str) -> None:
    text = f"Granite{between}{last}"
    chunks = chunk(text, content_type=content_type)
    assert [piece.text for piece in chunks] == ["Granite", last] if last else ["Granite"]
    assert [piece.start for piece in chunks] == [0, len(text) - 4][: len(chunks)]


def test_a_short_text_is_one_chunk() -> None:
    assert chunk("  Granite.\n", content_type=PLAIN_TEXT) == [Chunk(0, 2, 10, "Granite.", None)]


@pytest.mark.parametrize(
    ("content_type", "heading"), [(MARKDOWN, "## Later years"), (PLAIN_TEXT, "Later years"), (PLAIN_TEXT, "# Later")]
)
def test_a_heading_stays_with_what_follows(content_type: str, heading: str) -> None:
    text = f"{PROSE * 8}\n\n{heading}\n\n{PROSE * 10}"
    first, second, *_ = chunk(text, content_type=content_type)
    assert first.text == (PROSE * 8).strip()
    assert second.text.startswith(f"{heading}\n\nGranite")


@pytest.mark.parametrize("last", ["- an item", "| a | b |", "It ends here.", "a\ttable row", "x" * 90])
def test_what_is_no_heading_stays_where_it_is(last: str) -> None:
    text = f"{PROSE * 8}\n\n{last}\n\n{PROSE * 10}"
    assert chunk(text, content_type=PLAIN_TEXT)[0].text.endswith(last)


def test_headings_in_a_row_travel_together() -> None:
    text = f"{PROSE * 8}\n\n# Part\n\n{'## ' + 'Long chapter name ' * 5}\n\n{PROSE * 10}"
    chunks = chunk(text, content_type=MARKDOWN, capacity=700)
    assert any(piece.text.startswith("# Part\n\n## Long chapter") and "Granite" in piece.text for piece in chunks)


@pytest.mark.parametrize("content_type", [PLAIN_TEXT, MARKDOWN])
def test_a_heading_before_a_full_chunk_does_not_make_it_longer(content_type: str) -> None:
    text = "\n\n".join(f"{PROSE * 9}\n\n# Chapter {number}" for number in range(20))
    chunks = chunk(text, content_type=content_type)
    assert max(len(piece.text) for piece in chunks) <= CHARACTERS
    assert all(f"# Chapter {number}\n\nGranite" in "|".join(piece.text for piece in chunks) for number in range(19))


def test_a_heading_at_the_end_is_kept() -> None:
    assert chunk(f"{PROSE * 10}\n\n# Appendix", content_type=MARKDOWN)[-1].text.endswith("# Appendix")


def test_a_chunk_knows_the_page_its_middle_is_on() -> None:
    text = PROSE * 40
    half = len(text) // 2
    pages = [PageSpan(1, 0, half), PageSpan(2, half, half), PageSpan(3, half, len(text))]
    chunks = chunk(text, content_type=PLAIN_TEXT, pages=pages)
    assert {piece.page for piece in chunks} == {1, 3}
    assert all((piece.page == 1) == ((piece.start + piece.end) // 2 < half) for piece in chunks)
    assert {piece.page for piece in chunk(text, content_type=PLAIN_TEXT)} == {None}


ENDLESS = {
    "a word": "x",
    "a script without spaces": "\u4e00",
    "a script with dictionary boundaries": "\u0e01\u0e32",
    "line ends": "\n",
    "blanks": " ",
    "accents": "\u0301",
    "joined emoji": "\U0001f468\u200d",
    "flags": "\U0001f1e6",
    "punctuation": "!?",
    "headings": "# h\n\n",
    "quotes": "> ",
    "brackets": "[",
    "fences": "```\n",
}


@pytest.mark.parametrize("content_type", [PLAIN_TEXT, MARKDOWN])
@pytest.mark.parametrize("kind", ENDLESS)
def test_the_splitter_never_sees_more_than_a_block(
    kind: str, content_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Counting:
        def __init__(self, capacity: int) -> None:
            self._splitter = splitter(capacity)

        def chunk_indices(self, text: str) -> list[tuple[int, str]]:
            seen.append(len(text))
            pieces: list[tuple[int, str]] = self._splitter.chunk_indices(text)
            return pieces

    name = "MarkdownSplitter" if content_type == MARKDOWN else "TextSplitter"
    splitter = getattr(chunking, name)
    monkeypatch.setattr(chunking, name, Counting)
    text = "a" + ENDLESS[kind] * (300_000 // len(ENDLESS[kind])) + "z"
    chunks = chunk(text, content_type=content_type)
    assert max(seen) <= 8192
    if not any(boundary in ENDLESS[kind] for boundary in " \n"):
        assert max(seen[:-4]) <= 2048
    assert len(seen) <= len(text) / 2000
    assert max(len(piece.text) for piece in chunks) <= CHARACTERS
    assert letters("".join(piece.text for piece in chunks)) == letters(text)


@given(st.text(alphabet="x\u0301\u200d\U0001f468 \n.\u3002", min_size=100, max_size=400), st.integers(2000, 9000))
@example("x\u0301" * 100, 5000)
def test_blocks_follow_each_other_and_are_bounded(text: str, length: int) -> None:
    text = (text * length)[:40_000]
    blocks = list(chunking._blocks(text))
    assert [blocks[0][0], blocks[-1][1]] == [0, len(text)]
    assert all(above[1] == below[0] for above, below in pairwise(blocks))
    assert all(1024 < end - begin <= 8192 for begin, end in blocks[:-1])
    assert all(not (text[cut] == "\u0301" and text[cut - 1] == "x") for _, cut in blocks[:-1])


def test_nothing_but_headings_is_not_one_chunk() -> None:
    text = "\n\n".join("# " + "Long chapter name " * 10 for _ in range(2000))
    assert max(len(piece.text) for piece in chunk(text, content_type=MARKDOWN)) <= CHARACTERS
