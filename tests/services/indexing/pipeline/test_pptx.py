"""Presentations: every slide's text in order, each slide a section; hostile and damaged ones refused."""

from pathlib import Path

import pytest

from services.indexing.pipeline.documents import PPTX, Extracted
from services.indexing.pipeline.errors import CorruptDocument, DocumentTooLarge, EmptyDocument
from services.indexing.pipeline.formats import limits, pptx
from tests.services.indexing.pipeline.office_samples import SLIDE, drawn_table, presentation, shape
from tests.services.indexing.pipeline.samples import MANY, entity_bomb, read

CHART = (
    f"<c:chartSpace {SLIDE}><c:ser><c:tx><c:strRef><c:strCache><c:pt><c:v>Tonnes</c:v></c:pt></c:strCache></c:strRef>"
    "</c:tx><c:cat><c:multiLvlStrRef><c:multiLvlStrCache><c:lvl><c:pt><c:v>North quay</c:v></c:pt></c:lvl>"
    "</c:multiLvlStrCache></c:multiLvlStrRef></c:cat></c:ser></c:chartSpace>"
)
DIAGRAM = f'<dgm:dataModel {SLIDE}><dgm:pt modelId="1"><a:p><a:r><a:t>Survey</a:t></a:r></a:p></dgm:pt></dgm:dataModel>'


def extract(content: bytes) -> Extracted:
    return pptx.extract(memoryview(content), max_characters=MANY)


def slides(extracted: Extracted) -> list[tuple[int, str]]:
    return [(one.location["slide"], extracted.text[one.start : one.end]) for one in extracted.structure.sections]


def test_slides_are_sections_in_the_order_they_are_shown(tmp_path: Path) -> None:
    content = presentation(
        shape("Granite", "from the eastern face") + shape("Walls", placeholder="title"),
        shape("Costs", placeholder="ctrTitle") + drawn_table(("year", "ships"), ("1887", "forty")),
        shape("An end without a title."),
    )
    extracted = read(tmp_path, content, "plans.pptx")
    assert (extracted.content_type, extracted.title, extracted.partly_read) == (PPTX, "Harbour plans", ())
    assert slides(extracted) == [
        (1, "Walls\nGranite\nfrom the eastern face"),
        (2, "Costs\nyear\tships\n1887\tforty"),
        (3, "An end without a title."),
    ]
    assert [heading.text for heading in extracted.structure.headings] == ["Walls", "Costs"]
    (table,) = extracted.structure.tables
    assert (table.header, extracted.text[table.start : table.end]) == ("year\tships", "year\tships\n1887\tforty")


def test_what_describes_a_picture_is_read_and_its_file_name_is_not() -> None:
    pictures = "".join(
        f'<p:pic><p:nvPicPr><p:cNvPr id="2" name="Picture 2" descr="{text}"/></p:nvPicPr></p:pic>'
        for text in ("The harbour &amp; its walls", "wall-1.jpeg", "")
    )
    boxed = shape("Granite").replace("<p:nvSpPr>", '<p:nvSpPr><p:cNvPr id="3" name="Box" descr="A box"/>')
    assert slides(pptx.extract(memoryview(presentation(pictures + boxed)), max_characters=MANY)) == [
        (1, "The harbour & its walls\n\nGranite")
    ]


def test_notes_comments_diagrams_and_charts_belong_to_their_slide() -> None:
    frame = "<p:graphicFrame><a:graphic><a:graphicData>{}</a:graphicData></a:graphic></p:graphicFrame>"
    diagram, chart = frame.format('<dgm:relIds r:dm="d"/>'), frame.format('<c:chart r:id="c"/>')
    notes = shape("Say it slowly.", placeholder="body") + shape("7", placeholder="sldNum")
    content = presentation(
        shape("First") + diagram + chart,
        shape("Second"),
        related={
            1: [
                ("d", "diagramData", "/ppt/diagram.xml"),
                ("c", "chart", "/ppt/chart.xml"),
                ("n", "notesSlide", "/ppt/notes.xml"),
                ("k", "comments", "/ppt/comments.xml"),
            ]
        },
        parts={
            "ppt/diagram.xml": DIAGRAM,
            "ppt/chart.xml": CHART,
            "ppt/notes.xml": f"<p:notes {SLIDE}>{notes}</p:notes>",
            "ppt/comments.xml": f"<p:cmLst {SLIDE}><p:cm><p:text>Check this.</p:text></p:cm></p:cmLst>",
        },
    )
    first, second = slides(extract(content))
    assert first == (1, "First\n\nSurvey\n\nTonnes\nNorth quay\n\nSay it slowly.\n\nCheck this.")
    assert second == (2, "Second")


def test_numbers_dates_and_footers_of_slides_are_no_text() -> None:
    number = '<a:fld type="slidenum"><a:t>3</a:t></a:fld>'
    field = f"<p:sp><p:txBody><a:p><a:r><a:t>Page </a:t></a:r>{number}</a:p></p:txBody></p:sp>"
    content = presentation(shape("Footer", placeholder="ftr") + shape("1", placeholder="sldNum") + field)
    assert extract(content).text == "Page"


def test_of_alternatives_the_first_with_text_counts() -> None:
    both = "<mc:AlternateContent><mc:Choice>{}</mc:Choice><mc:Fallback>{}</mc:Fallback></mc:AlternateContent>"
    content = presentation(both.format(shape("new"), shape("old")) + both.format("<p:pic/>", shape("only")))
    assert extract(content).text == "new\n\nonly"


def test_a_damaged_slide_is_left_out_and_told() -> None:
    content = presentation(shape("Granite."), "<p:sp><a:p>", shape("Basalt."))
    extracted = extract(content)
    assert (slides(extracted), extracted.partly_read) == ([(1, "Granite."), (3, "Basalt.")], (pptx.DAMAGED_SLIDE,))
    with pytest.raises(CorruptDocument, match="presentation is damaged"):
        extract(presentation("<p:sp>"))
    with pytest.raises(CorruptDocument):
        extract(presentation(shape("Granite."))[:700])


def test_a_presentation_of_pictures_has_no_text() -> None:
    with pytest.raises(EmptyDocument):
        extract(presentation("<p:pic/>", ""))


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CorruptDocument, match="refused for safety"):
        extract(presentation("", parts={"ppt/slides/slide1.xml": entity_bomb() + f"<p:sld {SLIDE}>&j;</p:sld>"}))
    with pytest.raises(DocumentTooLarge):
        pptx.extract(memoryview(presentation(*[shape("granite " * 100)] * 50)), max_characters=10_000)
    monkeypatch.setattr(limits, "MAX_PART_BYTES", 10_000)
    with pytest.raises(DocumentTooLarge, match="unpacks to more"):
        extract(presentation(shape("x" * 20_000)))
