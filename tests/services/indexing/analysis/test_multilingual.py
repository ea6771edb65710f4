"""Words are found, and marked, as users of their language expect."""

import time
from collections.abc import Generator
from itertools import islice

import pytest

from services.indexing.analysis import ANALYZERS, CURRENT, FIRST, prepare
from services.indexing.analysis.analyzer import Span
from services.indexing.analysis.folding import folded
from services.indexing.analysis.multilingual import MAX_WORDS, Multilingual
from services.indexing.search.highlights import Highlighter

MODEL = Multilingual()


def score(text: str, query: str, context: str = "") -> float:
    """BM25 with the same document frequency for all terms."""
    chunk = dict(zip(*MODEL.of_chunk(text, context, average_length=100.0), strict=True))
    return sum(weight * chunk.get(term, 0.0) for term, weight in zip(*MODEL.of_query(query), strict=True))


def marked(text: str, query: str, analyzer: str = CURRENT) -> list[str]:
    return passages(text, ANALYZERS[analyzer].matcher(query).spans(text))


def passages(text: str, marking: Generator[None, None, list[Span]]) -> list[str]:
    while True:
        try:
            next(marking)
        except StopIteration as done:
            return [text[start:end] for start, end in done.value]


LANGUAGES = [
    ("en", "The engines of both ships were running.", "engine ran runs", ["engines", "running"]),
    ("de", "Die Häuser der Stadt sind alt, und das Haus ist neu.", "Häusern", ["Häuser", "Haus"]),
    ("fr", "Les élèves ont fini l’école, et elle continue.", "eleve ecoles", ["élèves", "l’école"]),
    ("es", "Las canciones de la niña no son para los niños.", "canción", ["canciones"]),
    ("it", "Nell'acqua ci sono delle barche.", "acqua barca", ["Nell'acqua", "barche"]),
    ("pt", "As informações são do livro e dos livros.", "informação", ["informações"]),
    ("nl", "De huizen zijn niet van het dorp, de boten ook niet.", "boot huis", ["huizen", "boten"]),
    ("pl", "Książki, które są na stole, nie są moje.", "książka", ["Książki"]),
    ("cs", "Knihy, které jsou na stole, nejsou moje.", "kniha", ["Knihy"]),
    ("sv", "Bilarna som står på gatan är inte mina.", "bilar", ["Bilarna"]),
    ("fi", "Talot ovat vanhoja, mutta talossa on myös uusi ovi.", "talo", ["Talot", "talossa"]),
    ("tr", "Kitaplar masanın üstünde değil, bu kitap ve o.", "kitap", ["Kitaplar", "kitap"]),
    ("hu", "A könyvek és a könyvet, hogy nem az asztalon van.", "könyv", ["könyvek", "könyvet"]),
    ("tr", "İSTANBUL ve ısparta", "istanbul", ["İSTANBUL"]),
    ("ru", "Он читает книги о книгах, и ёлка стоит.", "книга елка", ["книги", "книгах", "ёлка"]),
    ("el", "Τα σπίτια και ΤΟ ΣΠΊΤΙ στην πόλη", "σπίτι", ["σπίτια", "ΣΠΊΤΙ"]),
    ("ar", "في البَيْتِ الكبير، وبيــت آخر بالبيت", "بيت", ["البَيْتِ", "وبيــت", "بالبيت"]),
    ("ar", "إلى المدرسة أو مدرسه", "مدرسة", ["المدرسة", "مدرسه"]),
    ("fa", "کتاب‌ها و كتاب را برای او", "کتاب", ["کتاب‌ها", "كتاب"]),
    ("he", "המכתבים שלי והמכתב, מִכְתָּב", "מכתב", ["המכתבים", "והמכתב", "מִכְתָּב"]),
    ("hi", "वह किताबें और किताबों को पढ़ता है", "किताब", ["किताबें", "किताबों"]),
    ("th", "เด็กไปโรงเรียนทุกวัน", "โรงเรียน", ["โรงเรียน"]),
    ("zh", "这是信息检索系统的说明。", "检索系统", ["检索系统"]),
    ("zh", "水是生命。", "水", ["水"]),
    ("ja", "東京タワーは港区にある。", "タワー", ["タワー"]),
    ("ja", "ガラスの窓", "ｶﾞﾗｽ", ["ガラス"]),
    ("ko", "학교에서 공부하는 학생", "학교", ["학교"]),
    ("uk", "Зʼїзд і м’ята", "з'їзд мʼята", ["Зʼїзд", "м’ята"]),
    ("vi", "Thành phố Hồ Chí Minh", "thanh pho", ["Thành", "phố"]),
]


@pytest.mark.parametrize(("language", "text", "query", "expected"), LANGUAGES)
def test_users_find_what_they_expect_in_their_language(
    language: str, text: str, query: str, expected: list[str]
) -> None:
    # Beyond the basic plane: offsets that counted UTF-16 units would be wrong behind it.
    text = f"🚀👩‍🚀 {text}"
    assert joined(text, query) == expected
    assert score(text, query) > 0


def joined(text: str, query: str) -> list[str]:
    """As search shows it: characters that touch are one."""
    return passages(text, Highlighter(query).marking(text))


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("it is not so", "note"),
        ("red wine", "winner"),
        ("the universe", "university"),
        ("an organ", "organization"),
        ("京都", "東京"),
        ("the data of it", "database"),
        ("a1", "a"),
    ],
)
def test_other_words_are_not_taken_for_it(text: str, query: str) -> None:
    assert marked(text, query) == []
    assert score(text, query) == 0


@pytest.mark.parametrize(
    "pair",
    ["Straße STRASSE", "Müller muller", "ﬁnding finding", "１２３ 123", "Ｗｉｄｅ wide", "٣ 3", "Łódź lodz", "x² x2"],
)
def test_writings_of_one_word_are_equal(pair: str) -> None:
    first, second = pair.split()
    assert folded(first) == folded(second)
    assert score(first, second) > 0
    assert score(second, first) > 0


def test_a_text_is_searched_with_the_stemmer_of_its_own_language() -> None:
    german = "Die Häuser sind nicht groß, aber der Garten ist schön."
    assert score(german, "Haus") > 0
    assert score("The Häuser are not big, but the garden is nice and it was there.", "Haus") == 0


def test_exact_words_count_more_than_other_forms() -> None:
    assert score("a bridge with columns", "columns") > score("a bridge with column", "columns") > 0


def test_a_number_counts_as_much_as_a_word() -> None:
    assert score("part 4417", "4417") == pytest.approx(score("part used", "used"))


def test_function_words_count_only_where_there_is_nothing_else() -> None:
    assert score("what is the matter", "what is the granite") == 0
    assert score("die Mauer in der Stadt", "die Burg in der Nähe") == 0
    assert score("The Who played", "The Who") > 0
    assert marked("To be, or not", "to be or not to be") == ["To", "be", "or", "not"]
    assert marked("Who, IT and the Who", "The Who and IT") == ["Who", "IT", "Who"]
    assert marked("it is who", "WHAT IT IS") == ["it", "is"]
    # An article in German, a verb in English.
    assert score("we all die", "to die for") > 0


def test_a_word_said_twice_in_a_query_counts_twice() -> None:
    assert score("apple", "apple apple pear") == pytest.approx(2 * score("apple", "apple pear"))


def test_context_counts_and_lengthens() -> None:
    assert score("pumps", "handbooks", context="Handbook") > 0
    assert score("pumps", "pumps", context="Handbook " * 50) < score("pumps", "pumps")


def test_a_query_is_bounded() -> None:
    many = [f"word{number}" for number in range(MAX_WORDS + 10)]
    assert marked(" ".join(many), " ".join(many)) == many[:MAX_WORDS]
    letters = " ".join(f"wort{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(MAX_WORDS))
    assert len(MODEL.of_query(letters).ids) <= 3 * MAX_WORDS
    ideographs = "".join(map(chr, range(0x4E00, 0x5000)))
    assert len(MODEL.of_query(ideographs).ids) == MAX_WORDS


HOSTILE = [
    "a" * 1_000_000,
    "e" + "\u0301" * 1_000_000,
    "\u0e01" + "\u0e49" * 1_000_000,
    "\u0e49" * 1_000_000,
    "東" * 300_000,
    "東\u200d" * 300_000,
    "a'" * 500_000,
    "ﷺ" * 200_000,
    "א\u05b0" * 300_000,
    " \u00ad" * 400_000,
    "のa" * 300_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_analysis_is_linear_whatever_the_text(text: str) -> None:
    def seconds(part: str) -> float:
        began = time.process_time()
        MODEL.of_chunk(part, average_length=400.0)
        MODEL.of_query(part)
        return time.process_time() - began

    seconds(text[:1000])
    assert seconds(text) < 20 * max(seconds(text[: len(text) // 10]), 0.02)


def test_marking_gives_way_often() -> None:
    prepare()
    for text in ("word " * 800, "字" * 4000, "字 " * 2000):
        spans, longest = MODEL.matcher("word 字").spans(text), 0.0
        while True:
            began = time.thread_time()
            if next(islice(spans, 1), "end") == "end":
                break
            longest = max(longest, time.thread_time() - began)
        assert longest < 0.01


def test_terms_are_what_stored_points_have() -> None:
    """A change here is a new analyzer, under a new name."""
    text = "Häuser, engines and 東京 42"
    assert sorted(MODEL.of_chunk(text, average_length=400.0).ids) == PINNED
    assert {FIRST, CURRENT} == set(ANALYZERS) == {"english-1", "multilingual-1"}


PINNED = [340901247, 376700238, 1218586478, 1813545949, 2104478060, 2698901109, 2855482435, 3341140194, 3596585231]
