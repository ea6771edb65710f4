"""The text of paragraphs as Word shows it: changes, fields, symbols, boxes."""

import time

import pytest

from tests.services.indexing.pipeline.samples import paragraph, word_archive, word_body, word_text


def run(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def shown(body: str) -> str:
    return word_text(word_archive(word_body(body)))


def inline(content: str) -> str:
    return shown(f"<w:p>{content}</w:p>")


# --- changes


def test_moved_text_is_where_it_went_to() -> None:
    moved = paragraph("Moved.").partition("<w:r>")
    to = f"{moved[0]}<w:moveTo><w:r>{moved[2].replace('</w:p>', '')}</w:moveTo></w:p>"
    gone = f"<w:p><w:moveFromRangeStart/></w:p>{to.replace('moveTo', 'moveFrom')}<w:moveFromRangeEnd/>"
    assert shown(paragraph("One.") + to + paragraph("Two.") + gone) == "One.\n\nMoved.\n\nTwo."


def test_deleted_paragraphs_continue_in_the_next() -> None:
    deleted = "<w:pPr><w:rPr><w:del/></w:rPr></w:pPr>"
    body = f"<w:p>{deleted}{run('One ')}<w:del>{run('gone')}</w:del></w:p><w:p>{run('line.')}</w:p>"
    assert shown(body) == "One line."
    assert shown(f"<w:p>{deleted}<w:del>{run('gone')}</w:del></w:p>{paragraph('Kept.')}") == "Kept."
    assert shown(f"<w:p>{deleted}{run('Last.')}</w:p>") == "Last."


def test_deleted_rows_cells_and_equations_are_left_out() -> None:
    cells = f"<w:tc>{paragraph('a')}</w:tc><w:tc><w:tcPr><w:cellDel/></w:tcPr>{paragraph('b')}</w:tc>"
    rows = f"<w:tr>{cells}</w:tr><w:tr><w:trPr><w:del/></w:trPr>{cells}</w:tr><w:tr><w:trPr/>{cells}</w:tr>"
    assert shown(f"<w:tbl>{rows}</w:tbl>") == "a\na"
    assert inline(f"<w:del><m:oMath><m:r><m:t>x</m:t></m:r></m:oMath></w:del>{run('y')}") == "y"


def test_old_properties_do_not_count() -> None:
    old = '<w:pPr><w:pPrChange><w:pPr><w:outlineLvl w:val="0"/></w:pPr></w:pPrChange></w:pPr>'
    assert shown(paragraph("One.") + f"<w:p>{old}{run('Two.')}</w:p>") == "One.\n\nTwo."


def test_body_text_is_no_heading() -> None:
    body = f'<w:p><w:pPr><w:outlineLvl w:val="9"/></w:pPr>{run("Two.")}</w:p>'
    assert shown(paragraph("One.") + body) == "One.\n\nTwo."


# --- drop caps

DROP_CAP = '<w:p><w:pPr><w:framePr w:dropCap="{}"/></w:pPr><w:r><w:t>{}</w:t></w:r></w:p>'


@pytest.mark.parametrize("kind", ["drop", "margin"])
def test_a_drop_cap_belongs_to_its_word(kind: str) -> None:
    assert shown(DROP_CAP.format(kind, "G") + paragraph("ranite.") + paragraph("End.")) == "Granite.\n\nEnd."


def test_frames_without_drop_caps_are_paragraphs() -> None:
    assert shown(DROP_CAP.format("none", "G") + paragraph("ranite.")) == "G\n\nranite."


def test_a_drop_cap_stays_with_a_paragraph_that_holds_a_box() -> None:
    box = f"<w:r><w:txbxContent>{paragraph('box')}</w:txbxContent></w:r>"
    assert shown(DROP_CAP.format("drop", "G") + f"<w:p>{box}{run('ranite.')}</w:p>") == "box\n\nGranite."


def test_a_drop_cap_without_a_word_is_not_lost() -> None:
    table = f"<w:tbl><w:tr><w:tc>{paragraph('a')}{DROP_CAP.format('drop', 'B')}</w:tc></w:tr></w:tbl>"
    boxed = f"<w:p><w:txbxContent>{DROP_CAP.format('drop', 'D')}</w:txbxContent></w:p>"
    both = boxed.replace("<w:p>", "<w:p><w:pPr><w:framePr w:dropCap='drop'/></w:pPr>", 1)
    assert shown(both.replace("</w:txbxContent>", f"</w:txbxContent>{run('E')}") + paragraph("nd.")) == "D\n\nEnd."
    text = shown(DROP_CAP.format("drop", "A") + table + boxed + paragraph("ust.") + DROP_CAP.format("drop", "C"))
    assert text == "A\n\na B\n\nD\n\nust.\n\nC"


# --- alternatives and boxes


def alternatives(*choices: str, fallback: str) -> str:
    inner = "".join(f"<mc:Choice>{choice}</mc:Choice>" for choice in choices)
    return f"<mc:AlternateContent>{inner}<mc:Fallback>{fallback}</mc:Fallback></mc:AlternateContent>"


def test_the_first_alternative_with_text_counts() -> None:
    assert inline(alternatives(run("new"), run("newer"), fallback=run("old"))) == "new"
    assert inline(alternatives("<w:r/>", fallback=run("old"))) == "old"
    inner = alternatives("<w:r/>", fallback=run("inner"))
    assert inline(alternatives("<w:r/>", inner, fallback=run("old")) + run(" end")) == "inner end"


def test_emoji_are_in_the_fallback() -> None:
    emoji = '<s:symEx xmlns:s="http://schemas.microsoft.com/office/word/2015/wordml/symex" s:char="1F60A"/>'
    assert inline(f"<w:r>{alternatives(emoji, fallback='<w:t>😊</w:t>')}</w:r>") == "😊"


def test_tables_and_boxes_in_boxes_are_read_once() -> None:
    table = f"<w:tbl><w:tr><w:tc>{paragraph('a')}</w:tc><w:tc>{paragraph('b')}</w:tc></w:tr></w:tbl>"
    content = f"<w:txbxContent>{paragraph('box')}{table}</w:txbxContent>"
    boxes = alternatives(content, fallback=f"<w:pict><v:textbox>{content}</v:textbox></w:pict>")
    assert shown(f"<w:p><w:r>{boxes}</w:r>{run('around')}</w:p>") == "box\n\na\tb\n\naround"


def test_word_art_and_drawn_text_are_read() -> None:
    art = '<w:pict><v:shape><v:textpath string="DRAFT"/></v:shape></w:pict>'
    drawn = "<w:drawing><a:p><a:r><a:t>one</a:t></a:r><a:br/><a:r><a:t>two</a:t></a:r></a:p></w:drawing>"
    assert shown(f"<w:p><w:r>{art}</w:r><w:r>{drawn}</w:r>{run('End.')}</w:p>") == "DRAFT\n\none\ntwo\n\nEnd."


def test_content_controls_and_links_are_text() -> None:
    control = "<w:sdt><w:sdtPr><w:text/></w:sdtPr><w:sdtContent>{}</w:sdtContent></w:sdt>"
    cell = f"<w:tc>{paragraph('cell')}</w:tc>"
    row = f"<w:tr>{control.format(cell)}</w:tr>"
    links = f"<w:p><w:hyperlink>{run('link ')}</w:hyperlink><w:smartTag>{run('tag ')}</w:smartTag>{run('end')}</w:p>"
    body = control.format(paragraph("block")) + f"<w:tbl>{control.format(row)}</w:tbl>" + links
    assert shown(body + f"<w:p>{control.format(run('inline'))}</w:p>") == "block\n\ncell\n\nlink tag end\n\ninline"


# --- fields


def mark(kind: str, inner: str = "") -> str:
    return f'<w:r><w:fldChar w:fldCharType="{kind}">{inner}</w:fldChar></w:r>'


def instruction(text: str) -> str:
    return f"<w:r><w:instrText>{text}</w:instrText></w:r>"


def test_fields_show_their_results() -> None:
    simple = f'<w:fldSimple w:instr="DATE">{run("Monday")}</w:fldSimple>'
    inner = mark("begin") + instruction("NAME") + mark("separate") + run("hidden") + mark("end")
    outer = mark("begin") + instruction("IF") + inner + mark("separate") + run(" shown") + mark("end")
    assert inline(simple + outer + run(" end")) == "Monday shown end"


def test_fields_over_several_paragraphs_show_their_results() -> None:
    first = f"<w:p>{mark('begin')}{instruction('TOC')}{mark('separate')}{run('One 1')}</w:p>"
    assert shown(first + f"<w:p>{run('Two 2')}</w:p><w:p>{mark('end')}{run('End')}</w:p>") == "One 1\n\nTwo 2\n\nEnd"


def test_fields_that_never_end_hide_nothing() -> None:
    assert shown(f"<w:p>{mark('begin')}{run('One')}</w:p>{paragraph('Two')}") == "One\n\nTwo"
    assert inline(mark("end") + mark("separate") + run("One") + instruction("lost")) == "One"


def test_fields_without_results_show_their_instructions() -> None:
    button = mark("begin") + instruction("MACROBUTTON DoIt ") + instruction("[Click here]") + mark("end")
    ruby = mark("begin") + instruction(r'EQ \* jc2 \* "Font:Gothic" \o\ad(\s\up 9(yomi),kanji)') + mark("end")
    assert inline(button + ruby + mark("begin") + instruction("TC x") + mark("end")) == "[Click here]((yomi),kanji)"


def test_form_fields_show_what_is_chosen() -> None:
    entries = '<w:listEntry w:val="red"/><w:listEntry w:val="blue"/>'
    lists = [f"<w:ffData><w:ddList>{chosen}{entries}</w:ddList></w:ffData>" for chosen in ('<w:result w:val="1"/>', "")]
    boxes = [
        f"<w:ffData><w:checkBox><w:default w:val='1'/>{checked}</w:checkBox></w:ffData>"
        for checked in ("<w:checked/>", '<w:checked w:val="0"/>', "")
    ]
    other = "<w:ffData><w:textInput/></w:ffData>"
    assert inline("".join(mark("begin", data) + mark("end") for data in (*lists, *boxes, other))) == "bluered☒☐☒"


# --- characters


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('<w:sym w:font="Symbol" w:char="F061"/>', "α"),
        ('<w:sym w:font="symbol" w:char="00b3"/>', "≥"),
        ('<w:sym w:font="Wingdings" w:char="F0E0"/>', "→"),
        ('<w:sym w:font="Arial" w:char="00E9"/>', "é"),
        ('<w:sym w:font="Unheard" w:char="F061"/>', ""),
        ('<w:sym w:font="Symbol" w:char="F07F"/>', ""),
        ('<w:sym w:font="Symbol" w:char="none"/><w:sym/><w:sym w:char="FFFFFF"/>', ""),
        ('<w:rPr><w:rFonts w:ascii="Symbol"/></w:rPr><w:t>\uf06d\uf06d</w:t>', "μμ"),
        ("<w:t>a</w:t><w:ptab/><w:t>b</w:t><w:softHyphen/><w:t>c</w:t><w:cr/><w:t>d</w:t>", "a\tbc\nd"),
        ("<w:t>a<!-- a comment -->b<?a pi?>c</w:t>", "abc"),
        ("<w:ruby><w:rt><w:r><w:t>yomi</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>base</w:t></w:r></w:rubyBase></w:ruby>",
         "base(yomi)"),
    ],
)  # fmt: skip
def test_characters_are_those_that_are_shown(content: str, expected: str) -> None:
    assert inline(f"{run('[')}<w:r>{content}</w:r>{run(']')}") == f"[{expected}]"


def test_marks_outside_paragraphs_do_no_harm() -> None:
    stray = f"{mark('begin')}{instruction('x')}<w:rt/><w:ruby/><w:t>x</w:t><w:br/><w:pPr/><w:cellDel/><w:trPr/>"
    assert shown(f"{stray}<mc:Choice/></w:body><w:body>{paragraph('Granite.')}") == "Granite."


@pytest.mark.parametrize(
    "hostile",
    [
        f"<w:p>{mark('begin') * 10_000}{run('x') * 10_000}</w:p>",
        DROP_CAP.format("drop", "x" * 1000) * 5_000,
    ],
    ids=["fields", "drop caps"],
)
def test_time_is_linear(hostile: str) -> None:
    began = time.process_time()
    shown(hostile + paragraph("End."))
    assert time.process_time() - began < 2


def test_what_describes_a_picture_comes_before_the_paragraph_that_holds_it() -> None:
    place = "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"
    properties = '<wp:docPr id="1" name="Picture 1" descr="{}"/>'
    picture = f'<w:r><w:drawing><wp:inline xmlns:wp="{place}">{properties}</wp:inline></w:drawing></w:r>'
    said = picture.format(" The harbour &amp; its walls ") + picture.format("C:\\scans\\wall 1.PNG")
    assert inline(run("Before ") + said + run("after.")) == "The harbour & its walls\n\nBefore after."
    assert inline(f"<w:del>{said}</w:del>" + run("Text.")) == "Text."
    box = "<w:txbxContent>" + paragraph("Boxed.") + "</w:txbxContent>"
    choice = f"<mc:Choice>{said}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
    both = inline(f"<w:r><mc:AlternateContent>{choice}</mc:AlternateContent></w:r>" + run("Text."))
    assert both == "The harbour & its walls\n\nBoxed.\n\nText."
