"""E-mail messages: who wrote what to whom, and what came with it; hostile and damaged ones refused."""

import base64
from email.message import EmailMessage
from pathlib import Path

import pytest

from services.indexing.pipeline.documents import EML, PLAIN_TEXT
from services.indexing.pipeline.errors import CorruptDocument, DocumentTooLarge
from services.indexing.pipeline.formats import eml
from tests.services.indexing.pipeline.samples import MANY, read


def message(subject: str, body: str = "Granite built the wall.") -> EmailMessage:
    made = EmailMessage()
    made["Subject"] = subject
    made["From"] = "Zoë <zoe@example.org>"
    made["To"] = "harbour@example.org"
    made["Date"] = "Fri, 1 Mar 2024 10:30:00 +0100"
    made["Message-ID"] = "<1@example.org>"
    made.set_content(body)
    return made


def test_a_message_shows_its_headers_body_and_attachments(tmp_path: Path) -> None:
    made = message("Grüße aus dem Hafen")
    made.add_alternative("<html><body><p>Granite in <b>HTML</b></p></body></html>", subtype="html")
    made.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="Rechnung März.pdf")
    made.add_attachment("a note", filename="note.txt")
    extracted = read(tmp_path, made.as_bytes(), "x")
    assert (extracted.content_type, extracted.title) == (EML, "Grüße aus dem Hafen")
    assert extracted.text == (
        "Grüße aus dem Hafen\nFrom: Zoë <zoe@example.org>\nTo: harbour@example.org\nDate: 2024-03-01 10:30 +0100\n\n"
        "Granite built the wall.\n\nAttachments: Rechnung März.pdf, note.txt"
    )


def test_a_page_is_read_where_there_is_no_text() -> None:
    made = message("Page", "  ")
    made.add_alternative("<html><body><h1>Walls</h1><p>Größe</p></body></html>", subtype="html", charset="iso-8859-1")
    assert eml.extract(memoryview(made.as_bytes()), max_characters=MANY).text.endswith("\n\nWalls\nGröße")


def test_messages_in_a_message_follow_it_under_their_subjects() -> None:
    outer = message("Fwd: walls", "See below.")
    outer.add_attachment(message("Walls"))
    extracted = eml.extract(memoryview(outer.as_bytes()), max_characters=MANY)
    assert [(one.level, one.text) for one in extracted.structure.headings] == [(1, "Fwd: walls"), (2, "Walls")]
    assert "See below." in extracted.text
    assert extracted.text.endswith("Granite built the wall.")
    packed = base64.encodebytes(message("Walls").as_bytes())
    raw = (
        b'Subject: Fwd\nFrom: a@b\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="x"\n\n--x\n'
        b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + packed + b"\n--x--\n"
    )
    assert "Granite built the wall." in eml.extract(memoryview(raw), max_characters=MANY).text


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"From x Wed Jul 20 2016\nReceived: y\nFrom: a@b\nMessage-ID: <1>\nSubject: s\n\nbody", EML),
        (b"\n\nReturn-Path: <a@b>\nReceived: y\n\tz\nFrom: a@b\n\nbody", EML),
        (b"From: the harbour\nTo: the wall\n\nA letter.", PLAIN_TEXT),
        (b"Date: 1887\nSubject: walls\nPlace: harbour\n", PLAIN_TEXT),
    ],
)
def test_messages_are_told_by_their_headers(tmp_path: Path, content: bytes, content_type: str) -> None:
    assert read(tmp_path, content, "x").content_type == content_type


@pytest.mark.parametrize(
    "header",
    [
        b"Subject: =?utf-8?q?broken=ZZ?= =?nowhere?b?%%%?=",
        b"Subject: gr\xfc\xdfe",
        b"Subject: gr\xc3\xbc\xc3\x9fe\nDate: yesterday, perhaps",
        b"Content-Type: text/plain; charset=x-unknown\nSubject: s",
        b"Content-Type: multipart/mixed\nSubject: s",
        b"Content-Transfer-Encoding: base64\nSubject: s",
    ],
)
def test_damaged_headers_lose_nothing_else(header: bytes) -> None:
    content = header + b"\nFrom: a@b\n\nGranite built the wall.\n"
    extracted = eml.extract(memoryview(content), max_characters=MANY)
    assert "From: a@b" in extracted.text


def test_bombs_are_refused() -> None:
    parts = b"".join(b"--%d\nContent-Type: multipart/mixed; boundary=%d\n\n" % (n, n + 1) for n in range(5000))
    head = b"Subject: s\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=0\n\n"
    with pytest.raises(CorruptDocument, match="message is damaged"):
        eml.extract(memoryview(head + parts), max_characters=MANY)
    with pytest.raises(CorruptDocument):
        eml.extract(memoryview(head + b"--0\n\nx\n" * 20_000), max_characters=MANY)
    with pytest.raises(DocumentTooLarge):
        eml.extract(memoryview(message("s", "granite " * 10_000).as_bytes()), max_characters=1000)
    long = b"Subject: " + b"=?utf-8?q?a?= " * 100_000 + b"\nFrom: a@b\n\nGranite."
    assert len(eml.extract(memoryview(long), max_characters=MANY).text) < 5_000


def test_a_damaged_message_is_read_as_far_as_it_goes() -> None:
    whole = message("Walls", "Granite built the wall. " * 50)
    whole.add_attachment("a note", filename="note.txt")
    raw = whole.as_bytes()
    assert eml.extract(memoryview(raw), max_characters=MANY).partly_read == ()
    cut = eml.extract(memoryview(raw[: raw.index(b"a note")]), max_characters=MANY)
    assert (cut.text.count("Granite"), cut.partly_read) == (50, (eml.DAMAGED_PART,))
    head = b"Subject: Walls\nFrom: a@b\nMIME-Version: 1.0\nContent-Type: "
    for lost in (b'multipart/mixed; boundary="y"', b"multipart/mixed"):
        read_on = eml.extract(memoryview(head + lost + b"\n\n--x\n\nGranite.\n"), max_characters=MANY)
        assert (read_on.text[-8:], read_on.partly_read) == ("Granite.", (eml.DAMAGED_PART,))
    base64_body = head + b"text/plain\nContent-Transfer-Encoding: base64\n\nR3Jhbml0ZS4!A\n"
    assert eml.extract(memoryview(base64_body), max_characters=MANY).partly_read == (eml.DAMAGED_PART,)
