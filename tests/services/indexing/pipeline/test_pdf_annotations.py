"""What a PDF holds beside the text of its pages: filled-in forms, text boxes and comments."""

from pathlib import Path

import pytest

from tests.services.indexing.pipeline.samples import drawn_pdf, pdf_stream, read

FORM = "/AcroForm << /Fields [6 0 R] /DR << /Font << /Helv 5 0 R >> >> /DA (/Helv 12 Tf 0 g) >>"
FIELD = "/Subtype /Widget /T (name) /Rect [20 100 220 120]"


def text_of(
    folder: Path, annotation: str, appearance: str = "", *, catalog: str = FORM, content: str = "(Name) Tj"
) -> str:
    """The text of a page with one annotation, which looks like the text of its `appearance`."""
    look = f"/Tx BMC BT /Helv 12 Tf 2 5 Td ({appearance}) Tj ET EMC" if appearance else ""
    entry = "/AP << /N 7 0 R >>" if appearance else ""
    document = drawn_pdf(
        f"BT /F 12 Tf 20 200 Td {content} ET",
        page="/Annots [6 0 R]",
        catalog=catalog,
        objects=[
            f"<< /Type /Annot {annotation} {entry} >>".encode(),
            pdf_stream(look, "/Subtype /Form /BBox [0 0 200 20] /Resources << /Font << /Helv 5 0 R >> >>"),
        ],
    )
    return " ".join(read(folder, document).text.split())


@pytest.mark.parametrize(
    ("annotation", "appearance", "text"),
    [
        (f"{FIELD} /FT /Tx /V (Ada Lovelace)", "Ada Lovelace", "Ada Lovelace"),
        (f"{FIELD} /FT /Tx /V (Ada Lovelace)", "", "Ada Lovelace"),
        (f"{FIELD} /FT /Tx /V <FEFF00C9006C0061006E53E4>", "", "Élan古"),
        (f"{FIELD} /FT /Tx /Ff 16777216 /MaxLen 10 /V (12345)", "1 2 3 4 5", "12345"),
        (f"{FIELD} /FT /Ch /Ff 131072 /V (de) /Opt [[(de) (Germany)] [(fr) (France)]]", "Germany", "Germany"),
        (f"{FIELD} /FT /Ch /V [(de) (fr)] /Opt [[(de) (Germany)] [(fr) (France)]]", "Germany", "Germany France"),
    ],
    ids=["drawn", "not drawn", "unicode", "comb", "choice", "choices"],
)
def test_values_of_fields_are_read_once(tmp_path: Path, annotation: str, appearance: str, text: str) -> None:
    assert text_of(tmp_path, annotation, appearance) == f"Name {text}"


def test_fields_are_read_without_a_form(tmp_path: Path) -> None:
    assert text_of(tmp_path, f"{FIELD} /FT /Tx /V (Ada)", catalog="") == "Name Ada"


def test_a_form_may_be_all_there_is(tmp_path: Path) -> None:
    assert text_of(tmp_path, f"{FIELD} /FT /Tx /V (Ada)", content="") == "Ada"


@pytest.mark.parametrize("flags", [2, 32], ids=["hidden", "not on screen"])
@pytest.mark.parametrize("appearance", ["", "Unseen"])
def test_hidden_fields_and_comments_are_not_read(tmp_path: Path, flags: int, appearance: str) -> None:
    assert text_of(tmp_path, f"{FIELD} /FT /Tx /V (Unseen) /F {flags}", appearance) == "Name"
    assert text_of(tmp_path, f"/Subtype /Text /Rect [0 0 9 9] /Contents (Unseen) /F {flags}", appearance) == "Name"


def test_passwords_are_not_read(tmp_path: Path) -> None:
    assert text_of(tmp_path, f"{FIELD} /FT /Tx /Ff 8192 /V (open sesame)", "***********") == "Name"


@pytest.mark.parametrize("appearance", ["", "Margin words"])
def test_text_boxes_are_read_once(tmp_path: Path, appearance: str) -> None:
    box = "/Subtype /FreeText /Rect [20 100 220 120] /DA (/Helv 12 Tf) /Contents (Margin words)"
    assert text_of(tmp_path, box, appearance) == "Name Margin words"


@pytest.mark.parametrize("kind", ["Text", "Highlight", "Square", "Caret"])
def test_comments_are_read(tmp_path: Path, kind: str) -> None:
    comment = f"/Subtype /{kind} /Rect [0 0 9 9] /Contents (Check this.)"
    assert text_of(tmp_path, comment, catalog="") == "Name Check this."


def test_a_highlight_that_repeats_its_text_adds_nothing(tmp_path: Path) -> None:
    assert text_of(tmp_path, "/Subtype /Highlight /Rect [0 0 9 9] /Contents (Name)") == "Name"


def test_the_answers_of_a_review_are_not_read(tmp_path: Path) -> None:
    answer = "/Subtype /Text /Rect [0 0 9 9] /Contents (Accepted by Ada) /StateModel (Review)"
    assert text_of(tmp_path, answer) == "Name"


def test_links_and_pop_ups_are_not_read(tmp_path: Path) -> None:
    assert text_of(tmp_path, "/Subtype /Link /Rect [0 0 9 9] /Contents (Go there)") == "Name"
    assert text_of(tmp_path, "/Subtype /Popup /Rect [0 0 9 9] /Contents (Twice)") == "Name"


@pytest.mark.parametrize(("state", "text"), [("Visa", "Name Visa"), ("Yes", "Name"), ("Off", "Name")])
def test_a_checked_box_is_its_value_if_it_has_one(tmp_path: Path, state: str, text: str) -> None:
    look = f"/AP << /N << /{state if state != 'Off' else 'Visa'} 7 0 R /Off 7 0 R >> >>"
    assert text_of(tmp_path, f"{FIELD} /FT /Btn /V /{state} /AS /{state} {look}") == text


def test_many_annotations_take_no_time(tmp_path: Path) -> None:
    """Drawing them would take the square of it; what they hold is read still."""
    stamp = b"<< /Type /Annot /Subtype /Stamp /Rect [0 0 9 9] /Contents (Stamped.) /AP << /N 7 0 R >> >>"
    look = pdf_stream("BT /F 9 Tf (Drawn.) Tj ET", "/Subtype /Form /BBox [0 0 9 9]")
    document = drawn_pdf("", page=f"/Annots [{'6 0 R ' * 50_000}]", objects=[stamp, look])
    assert read(tmp_path, document).text == "Stamped."
