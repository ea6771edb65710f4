import pytest

from services.indexing.agents.answerers.answer_types import AnswerType, expected, has


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Who built it?", AnswerType.PERSON),
        ("when was it built?", AnswerType.TIME),
        ("In which year was it built?", AnswerType.TIME),
        ("How many people built it?", AnswerType.NUMBER),
        ("What is the price of the ticket?", AnswerType.NUMBER),
        ("What does the ticket cost?", AnswerType.NUMBER),
        ("Where does it stand?", AnswerType.PLACE),
        ("And why was it built?", AnswerType.REASON),
        ("How was it built?", AnswerType.ANY),
        ("Wer hat sie gebaut?", AnswerType.ANY),
        ("", AnswerType.ANY),
    ],
)
def test_the_kind_of_answer_follows_from_the_question(question: str, kind: AnswerType) -> None:
    assert expected(question) is kind


@pytest.mark.parametrize(
    ("sentence", "kind", "there"),
    [
        ("It was built by Jane Roe.", AnswerType.PERSON, True),
        ("It was built by hand.", AnswerType.PERSON, False),
        ("It opened on 19 March.", AnswerType.TIME, True),
        ("It opened with a ceremony.", AnswerType.TIME, False),
        ("It has seven doors.", AnswerType.NUMBER, True),
        ("It has doors.", AnswerType.NUMBER, False),
        ("It closed because it rained.", AnswerType.REASON, True),
        ("It closed.", AnswerType.REASON, False),
        ("Anything", AnswerType.ANY, True),
    ],
)
def test_a_sentence_has_the_form_of_an_answer_or_not(sentence: str, kind: AnswerType, there: bool) -> None:
    assert has(sentence, kind) is there
