"""E-books: chapters in reading order; protected, hostile and damaged ones refused."""

from pathlib import Path

import pytest

from services.indexing.pipeline.documents import EPUB
from services.indexing.pipeline.errors import CorruptDocument, DocumentEncrypted, DocumentTooLarge
from services.indexing.pipeline.formats import epub, limits
from tests.services.indexing.pipeline.office_samples import book, page
from tests.services.indexing.pipeline.samples import MANY, entity_bomb, read, zipped

ENCRYPTION = (
    '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" xmlns:enc="http://www.w3.org/2001/04/xmlenc#">'
    '<enc:EncryptedData><enc:EncryptionMethod Algorithm="{}"/></enc:EncryptedData></encryption>'
)


def test_chapters_come_in_the_order_of_the_spine(tmp_path: Path) -> None:
    chapters = {"two.xhtml": page("Second", "Basalt."), "one%20a.xhtml": page("First", "Granite.", "Gneiss.")}
    content = book({"nav.xhtml": page("Contents"), **chapters}, spine=["two.xhtml", "missing", "one%20a.xhtml"])
    extracted = read(tmp_path, content, "book.epub")
    assert (extracted.content_type, extracted.title) == (EPUB, "Harbours")
    assert extracted.text == "Second\nBasalt.\n\n\nFirst\nGranite.\n\nGneiss."
    assert [(one.level, one.text) for one in extracted.structure.headings] == [(1, "Second"), (1, "First")]
    assert [(one.start, one.end, one.location) for one in extracted.structure.sections] == [(0, 14, {}), (17, 40, {})]


def test_books_with_fonts_that_are_kept_from_copying_are_read() -> None:
    chapters = {"a.xhtml": page("First", "Granite.")}
    fonts = ENCRYPTION.format("http://www.idpf.org/2008/embedding")
    content = book(chapters, parts={"META-INF/encryption.xml": fonts})
    assert epub.extract(memoryview(content), max_characters=MANY).text.startswith("First")
    protected = ENCRYPTION.format("http://www.w3.org/2001/04/xmlenc#aes256-cbc")
    with pytest.raises(DocumentEncrypted):
        epub.extract(memoryview(book(chapters, parts={"META-INF/encryption.xml": protected})), max_characters=MANY)


def test_damaged_chapters_are_left_out_and_told() -> None:
    content = book({"a.xhtml": page("First", "Granite.")})
    missing = book({"a.xhtml": page("First", "Granite."), "b.xhtml": "\x01\x02\x03\x04\x05" * 20})
    assert epub.extract(memoryview(content), max_characters=MANY).partly_read == ()
    assert epub.extract(memoryview(missing), max_characters=MANY).partly_read == (epub.DAMAGED_CHAPTER,)
    for broken in (zipped({"mimetype": EPUB}), content[:200], book({"b.xhtml": "\x01\x02\x03\x04\x05" * 20})):
        with pytest.raises(CorruptDocument):
            epub.extract(memoryview(broken), max_characters=MANY)


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CorruptDocument, match="refused for safety"):
        epub.extract(
            memoryview(book({}, parts={"META-INF/container.xml": entity_bomb() + "<container>&j;</container>"})),
            max_characters=MANY,
        )
    with pytest.raises(DocumentTooLarge):
        epub.extract(memoryview(book({"a": page("First", "x" * 3000)})), max_characters=1000)
    monkeypatch.setattr(limits, "MAX_PART_BYTES", 10_000)
    with pytest.raises(DocumentTooLarge, match="unpacks to more"):
        epub.extract(memoryview(book({"a": page("First", "x" * 20_000)})), max_characters=MANY)
