"""Texts become the numbers that the published tokenizer gives them."""

import pytest

from services.indexing.embedders.minilm_tokenizer import tokenizer

BEGIN, END, UNKNOWN = 101, 102, 100
PIECES = 30_522


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        (
            "The quarry's GRANITE, unbelievably.",
            [1996, 12907, 1005, 1055, 9753, 1010, 4895, 8671, 2666, 3567, 6321, 1012],
        ),
        ("Élan naïf", [3449, 2319, 6583, 10128]),
        ("花崗岩 wall", [1940, UNKNOWN, UNKNOWN, 2813]),
        ("a\x00b\u200dc", [5925]),
    ],
)
def test_ids_are_those_of_the_published_tokenizer(text: str, ids: list[int]) -> None:
    assert tokenizer(256).encode(text).ids == [BEGIN, *ids, END]


def test_every_piece_has_its_number() -> None:
    pieces = tokenizer(256)
    assert pieces.get_vocab_size() == PIECES
    assert pieces.id_to_token(PIECES - 1) == "##\uff5e"
    assert pieces.id_to_token(0) == "[PAD]"


def test_a_text_that_writes_a_mark_of_the_model_says_nothing_special() -> None:
    assert END not in tokenizer(256).encode("a [SEP] b").ids[:-1]


def test_a_long_text_ends_in_time() -> None:
    ids = tokenizer(8).encode("granite " * 100).ids
    assert (len(ids), ids[0], ids[-1]) == (8, BEGIN, END)
