"""File names of forms, as clients put them on the wire."""

import pytest

from services.projects.documents.content_disposition import attachment, file_name, parse


def read(header: bytes, *, percent_encoded: bool = False) -> str:
    return file_name(parse(header)[1], percent_encoded=percent_encoded)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b'form-data; name="file"; filename="plain.txt"', "plain.txt"),
        (b"form-data; name=file; filename=plain.txt", "plain.txt"),
        ('form-data; name="file"; filename="größe.txt"'.encode(), "größe.txt"),
        (b'form-data; name="file"; filename="a %22b%22.txt"', 'a "b".txt'),  # browsers, httpx
        (rb'form-data; name="file"; filename="a \"b\" \\ c.txt"', 'a "b" \\ c.txt'),  # curl, Go
        (rb'form-data; name="file"; filename="C:\dir\new.txt"', r"C:\dir\new.txt"),
        (rb'form-data; name="file"; filename="ends\"', "ends\\"),
        (b'form-data; name="file"; filename="a;b=c.txt"', "a;b=c.txt"),
        (b"form-data; name=file; filename=\"=?utf-8?B?Z3LDtsOfZQ==?=\"; filename*=utf-8''gr%C3%B6%C3%9Fe", "größe"),
        (b'form-data; name=file; filename="=?UTF-8?Q?gr=C3=B6=C3=9Fe_a.txt?="', "größe a.txt"),
        (b'form-data; name=file; filename="=?utf-8?B?Z3LD?= =?utf-8?B?tsOfZQ==?="', "größe"),
        (b'form-data; name=file; filename="=?nonsense?B?Z3LD?="', "=?nonsense?B?Z3LD?="),
        (b"form-data; name=file; filename*=iso-8859-1'en'%A3.txt", "£.txt"),
        (b"form-data; name=file; filename*=utf-8''%FF; filename=\"spare.txt\"", "spare.txt"),
        (b'form-data; name="file"; filename="gr\xf6\xdfe.txt"', "größe.txt"),
        (b'form-data; name="file"; filename="10 \x80.txt"', "10 €.txt"),
        (b'form-data; name="file"; filename="gr%C3%B6%C3%9Fe%20x.txt"', "größe x.txt"),
        (b'form-data; name="file"; filename="my%20file.txt"', "my%20file.txt"),
        (b'form-data; name="file"; filename="100%25.txt"', "100%25.txt"),
        (b"form-data; name=file", ""),
        (b'form-data; name="file"; filename=""', ""),
    ],
)
def test_a_name_is_read_as_its_sender_meant_it(header: bytes, name: str) -> None:
    assert read(header) == name


def test_a_client_that_encodes_everything_has_everything_decoded() -> None:
    assert read(b'form-data; name="file"; filename="my%20file.txt"', percent_encoded=True) == "my file.txt"


def test_a_download_has_a_plain_name_beside_the_real_one() -> None:
    assert attachment("plan b.txt") == "attachment; filename=\"plan b.txt\"; filename*=UTF-8''plan%20b.txt"
    assert attachment('größe "x"%.txt') == (
        "attachment; filename=\"gro_e _x__.txt\"; filename*=UTF-8''gr%C3%B6%C3%9Fe%20%22x%22%25.txt"
    )
    assert attachment("资料.md").startswith('attachment; filename="__.md"; ')
