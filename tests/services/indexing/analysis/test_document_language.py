"""What language a document is said to be in."""

from collections.abc import Iterator

import pytest

from services.indexing.analysis.document_language import of_document

TEXTS = {
    "en": "Granite from the eastern face of the quarry built the harbour wall.",
    "de": "Der Granit aus dem Osten des Steinbruchs wurde für die Mauer des Hafens gebraucht.",
    "fr": "Le granit de la carrière a servi à bâtir le mur du port.",
    "pl": "Granit ze wschodniej ściany kamieniołomu posłużył do budowy muru w porcie i na nabrzeżu.",
    "ru": "Гранит из восточной стены карьера пошёл на строительство стены гавани, и каменщики работали двенадцать лет.",
    "uk": "Граніт зі східної стіни кар'єру пішов на спорудження стіни гавані, і каменярі працювали дванадцять років.",
    "el": "Ο γρανίτης από το λατομείο έχτισε τον τοίχο του λιμανιού.",
    "ar": "بني جدار الميناء من الجرانيت الذي جاء من المحجر في الشرق.",
    "he": "הגרניט מהמחצבה שימש לבניית חומת הנמל.",
    "th": "กำแพงท่าเรือสร้างจากหินแกรนิต",
    "zh": "港口的墙是用采石场东面的花岗岩建造的。",
    "ja": "港の壁は採石場の東側の花崗岩で造られた。",
    "ko": "항구의 벽은 채석장 동쪽의 화강암으로 지어졌다.",
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_sentence_is_enough(language: str) -> None:
    assert of_document([TEXTS[language]]) == language


@pytest.mark.parametrize("text", ["", "184", "Endeavour\t4.2", "QX-4417\nQX-4418", "Гранит"])
def test_nothing_is_said_of_what_says_too_little(text: str) -> None:
    assert of_document([text]) is None


def test_most_of_the_text_decides() -> None:
    assert of_document([TEXTS["zh"], *[TEXTS["en"]] * 3]) == "en"
    assert of_document([TEXTS["en"], *[TEXTS["de"]] * 3]) == "de"
    # Names in another script change nothing.
    assert of_document([f"{TEXTS['zh']} Harbour Authority"]) == "zh"


def test_only_the_beginning_is_read() -> None:
    def passages() -> Iterator[str]:
        for _ in range(400):
            yield TEXTS["en"]
        raise AssertionError("read on")

    assert of_document(passages()) == "en"
