"""Equations as lines of text."""

import pytest

from tests.services.indexing.pipeline.samples import paragraph, word_archive, word_body, word_text


def run(text: str) -> str:
    return f"<m:r><m:rPr/><m:t>{text}</m:t></m:r>"


def element(name: str, properties: str = "", **operands: str) -> str:
    inner = "".join(f"<m:{operand}>{content}</m:{operand}>" for operand, content in operands.items())
    return f"<m:{name}><m:{name}Pr>{properties}<m:ctrlPr/></m:{name}Pr>{inner}</m:{name}>"


def sup(base: str, power: str) -> str:
    return element("sSup", e=run(base), sup=run(power))


SUM = element("nary", '<m:chr m:val="∑"/>', sub=run("n=1"), sup=run("∞"), e=element("sSub", e=run("x"), sub=run("n")))
MATRIX = element("m").replace(
    "</m:m>",
    "".join(f"<m:mr><m:e>{run(a)}</m:e><m:e>{run(b)}</m:e></m:mr>" for a, b in ("ab", "cd")) + "</m:m>",
)


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        (sup("a", "2") + run("+") + sup("b", "2"), "a^2+b^2"),
        (sup("a+b", "n+1"), "(a+b)^(n+1)"),
        (sup("x", "k") + sup("a", "2"), "x^k a^2"),
        (element("sSubSup", e=run("N"), sub=run("s"), sup=run("H")), "N_s^H"),
        (element("sPre", sub=run("1"), sup=run("2"), e=run("H")), "_1^2H"),
        (element("f", num=run("n+1"), den=run("2")), "(n+1)/2"),
        (element("f", '<m:type m:val="noBar"/>', num=run("n"), den=run("k")), "n¦k"),
        (element("rad", '<m:degHide m:val="1"/>', deg="", e=run("x")), "√(x)"),
        (element("rad", deg=run("3"), e=run("x+1")), "3√(x+1)"),
        (element("d", e=run("x")), "(x)"),
        (element("d", '<m:begChr m:val="["/><m:endChr m:val=""/>', e=run("x")), "[x"),
        (SUM, "∑_(n=1)^∞ x_n"),
        (element("nary", sub="", sup="", e=run("x") + element("box", e=run("dx"))), "∫ xdx"),
        (run("2") + element("func", fName=run("sin"), e=run("x")), "2 sin x"),
        (element("func", fName=run("f"), e=element("d", e=run("x"))), "f(x)"),
        (element("limLow", e=run("lim"), lim=run("n→∞")), "lim_(n→∞)"),
        (element("limUpp", e=run("a"), lim=run("b")), "a^b"),
        (element("acc", '<m:chr m:val="\u0304"/>', e=run("x")), "x̄"),
        (element("acc", e=run("AB")), "AB"),
        (element("bar", e=run("AB")), "AB"),
        (element("phant", '<m:show m:val="0"/>', e=run("x")) + run("y"), "y"),
        (element("d", '<m:begChr m:val="["/><m:endChr m:val="]"/>', e=MATRIX), "[a b; c d]"),
        (element("eqArr", e=run("a=1")).replace("</m:eqArr>", f"<m:e>{run('b=2')}</m:e></m:eqArr>"), "a=1\nb=2"),
        (element("groupChr", e=run("x")) + element("borderBox", e=run("y")), "xy"),
        (run("a") + f"<w:del>{run('gone')}</w:del><w:ins>{run('b')}</w:ins>", "ab"),
        ("<m:r><w:t>old</w:t><w:br/><w:t>text</w:t></m:r>", "old\ntext"),
    ],
)
def test_an_equation_is_a_line_of_text(equation: str, expected: str) -> None:
    assert word_text(word_archive(word_body(f"<w:p><m:oMath>{equation}</m:oMath></w:p>"))) == expected


def test_equations_stand_where_they_are() -> None:
    text, inline = "<w:r><w:t>{}</w:t></w:r>", f"<m:oMath>{sup('c', '2')}</m:oMath>"
    inside = f"<w:p>{text.format('E=m')}{inline}{text.format(' is known.')}</w:p>"
    display = f"<w:p>{text.format('So')}<m:oMathPara>{inline}{inline}</m:oMathPara>{text.format('ends.')}</w:p>"
    alone = f"<m:oMathPara>{inline}</m:oMathPara>"
    content = word_archive(word_body(inside + display + alone + paragraph("End.")))
    assert word_text(content) == "E=mc^2 is known.\n\nSo\nc^2\nc^2\nends.\n\nc^2\n\nEnd."


def test_deep_equations_keep_their_text() -> None:
    deep = f"{'<m:d><m:e>' * 100}{run('x')}{'</m:e></m:d>' * 100}"
    text = word_text(word_archive(word_body(f"<w:p><m:oMath>{deep}</m:oMath></w:p>{paragraph('End.')}")))
    assert text.startswith("(")
    assert "x" in text
    assert text.endswith("\n\nEnd.")
