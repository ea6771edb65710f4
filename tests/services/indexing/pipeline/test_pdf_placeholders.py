"""PDFs whose pages only ask for another viewer."""

from pathlib import Path

import pytest

from services.indexing.pipeline.errors import UnsupportedContentType
from tests.services.indexing.pipeline.samples import drawn_pdf, pdf_stream, read

PLEASE_WAIT = "BT /F 9 Tf 20 700 Td (Please wait... If this message is not eventually replaced by the proper) Tj ET"
OPEN_IT = "BT /F 9 Tf 20 700 Td (For the best experience, open this PDF portfolio in Acrobat X.) Tj ET"
TEMPLATE = """<template xmlns="http://www.xfa.org/schema/xfa-template/3.3/"><subform>
<draw><value><text>Harbour permit</text></value></draw>
<field name="ship"><caption><value><text>Name of the ship</text></value></caption>
<value><text>default</text></value></field>
<event><script>secret()</script></event></subform></template>"""
DATASETS = """<xfa:datasets xmlns:xfa="http://www.xfa.org/schema/xfa-data/1.0/"><xfa:data><form>
<ship>Endeavour</ship></form></xfa:data></xfa:datasets>"""


def xfa(template: str, datasets: str = "", *, rendered: bool = False) -> bytes:
    needs = "" if rendered else "/NeedsRendering true"
    catalog = f"/AcroForm << /Fields [] /XFA [(template) 6 0 R (datasets) 7 0 R] >> {needs}"
    return drawn_pdf(PLEASE_WAIT, catalog=catalog, objects=[pdf_stream(template), pdf_stream(datasets)])


@pytest.mark.parametrize("rendered", [False, True])
def test_an_xfa_form_is_read_instead_of_its_placeholder(tmp_path: Path, rendered: bool) -> None:
    extracted = read(tmp_path, xfa(TEMPLATE, DATASETS, rendered=rendered))
    assert extracted.text.split("\n") == ["Harbour permit", "Name of the ship", "Endeavour"]
    assert extracted.pages is not None
    assert [(page.number, page.start, page.end) for page in extracted.pages] == [(1, 0, len(extracted.text))]


@pytest.mark.parametrize("template", ["<template/>", "not XML", ""])
def test_an_xfa_form_that_shows_no_text_is_refused(tmp_path: Path, template: str) -> None:
    with pytest.raises(UnsupportedContentType, match="XFA"):
        read(tmp_path, xfa(template))


def test_a_portfolio_is_refused(tmp_path: Path) -> None:
    names = "/Names << /EmbeddedFiles << /Names [(a.txt) 6 0 R] >> >>"
    file = [b"<< /Type /Filespec /F (a.txt) /EF << /F 7 0 R >> >>", pdf_stream("text", "/Type /EmbeddedFile")]
    with pytest.raises(UnsupportedContentType, match="portfolio"):
        read(tmp_path, drawn_pdf(OPEN_IT, catalog=names, objects=file))
    assert "portfolio" in read(tmp_path, drawn_pdf(OPEN_IT)).text
