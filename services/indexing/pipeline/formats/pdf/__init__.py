"""PDF to plain text: pages, filled-in forms and comments, with lines joined back into paragraphs.

The text is what a reader of the pages can see, read by pdfium. It does not depend on the fonts of the machine.
"""

import ctypes
from contextlib import closing

import pypdfium2
from pypdfium2 import raw

from services.indexing.pipeline.documents import PDF, Extracted, Structure
from services.indexing.pipeline.errors import CorruptDocument, DocumentEncrypted, EmptyDocument
from services.indexing.pipeline.formats.pdf import font_substitution, outline, pages, placeholders

_SAMPLE = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[6 0 R]>>>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>/Annots[6 0 R]>>endobj
4 0 obj<</Length 33>>stream
BT /F 9 Tf 9 9 Td (warm up) Tj ET
endstream endobj
5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj
6 0 obj<</Type/Annot/Subtype/Widget/FT/Tx/T(field)/V(value)/Rect[9 9 90 20]>>endobj
trailer<</Root 1 0 R>>"""


def extract(content: memoryview, *, max_characters: int) -> Extracted:
    font_substitution.install()
    with closing(_open(content)) as document:
        if document.get_formtype() != raw.FORMTYPE_NONE:
            document.init_forms()
        read = placeholders.replaced(document, pages.read(document, max_characters=max_characters))
        if not read.text:
            raise EmptyDocument("pdf")
        title = outline.title(document)
        structure = Structure(headings=outline.headings(document, read.text, read.spans))
    return Extracted(read.text, PDF, read.spans, title, read.partly_read, structure)


def warm_up() -> None:
    """Let pdfium load what it loads lazily, which takes it longer than reading a short document."""
    extract(memoryview(bytearray(_SAMPLE)), max_characters=len(_SAMPLE))


def _open(content: memoryview) -> pypdfium2.PdfDocument:
    # pdfium needs an address, which only writable memory exposes.
    source = bytes(content) if content.readonly else (ctypes.c_char * len(content)).from_buffer(content)
    try:
        document = pypdfium2.PdfDocument(source)
    except pypdfium2.PdfiumError as error:
        if error.err_code == raw.FPDF_ERR_PASSWORD:
            raise DocumentEncrypted() from error
        raise CorruptDocument("pdf", detail=str(error)) from error
    if not len(document):
        raise CorruptDocument("pdf", detail="no pages")
    return document
