"""Presentations, spreadsheets, OpenDocument files and e-books written by the tests."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tests.services.indexing.pipeline.samples import OFFICE, content_types, relationships, zipped

_MAIN = "http://schemas.openxmlformats.org"
SLIDE = (
    f'xmlns:p="{_MAIN}/presentationml/2006/main" xmlns:a="{_MAIN}/drawingml/2006/main" xmlns:r="{OFFICE}" '
    f'xmlns:c="{_MAIN}/drawingml/2006/chart" xmlns:dgm="{_MAIN}/drawingml/2006/diagram" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
)
SHEET = f'xmlns="{_MAIN}/spreadsheetml/2006/main" xmlns:r="{OFFICE}"'
PRESENTATION_TYPE = "application/vnd.openxmlformats-officedocument.presentationml.presentation.main+xml"
WORKBOOK_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
NO_PARTS: Mapping[str, str] = MappingProxyType({})
_OASIS = "urn:oasis:names:tc:opendocument:xmlns"
OPEN_DOCUMENT = " ".join(
    f'xmlns:{prefix}="{_OASIS}:{name}:1.0"'
    for prefix, name in (
        *(("office", "office"), ("text", "text"), ("table", "table"), ("draw", "drawing"), ("style", "style")),
        *(("presentation", "presentation"), ("svg", "svg-compatible"), ("manifest", "manifest")),
    )
)
CORE = (
    '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{}</dc:title></cp:coreProperties>'
)


def shape(*paragraphs: str, placeholder: str = "") -> str:
    marked = f'<p:nvPr><p:ph type="{placeholder}"/></p:nvPr>' if placeholder else ""
    inner = "".join(f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p>" for text in paragraphs)
    return f"<p:sp><p:nvSpPr>{marked}</p:nvSpPr><p:txBody>{inner}</p:txBody></p:sp>"


def drawn_table(*rows: Sequence[str]) -> str:
    cell = "<a:tc><a:txBody><a:p><a:r><a:t>{}</a:t></a:r></a:p></a:txBody></a:tc>"
    inner = "".join(f"<a:tr>{''.join(map(cell.format, row))}</a:tr>" for row in rows)
    return (
        f"<p:graphicFrame><a:graphic><a:graphicData><a:tbl>{inner}</a:tbl></a:graphicData></a:graphic></p:graphicFrame>"
    )


def presentation(
    *slides: str,
    related: Mapping[int, Sequence[tuple[str, str, str]]] | None = None,
    parts: Mapping[str, str] = NO_PARTS,
) -> bytes:
    """Slides with these shapes; `related` are relationships of slides, by their numbers, `parts` other files."""
    names = [f"ppt/slides/slide{number}.xml" for number in range(1, len(slides) + 1)]
    # The order is that of the list, not of the names.
    ids = "".join(f'<p:sldId r:id="s{number}"/>' for number in range(1, len(slides) + 1))
    targets = [(f"s{number}", "slide", f"/{name}") for number, name in enumerate(names, start=1)]
    return zipped(
        {
            "[Content_Types].xml": content_types({"ppt/presentation.xml": PRESENTATION_TYPE}),
            "_rels/.rels": relationships(("main", "officeDocument", "ppt/presentation.xml")),
            "ppt/presentation.xml": f"<p:presentation {SLIDE}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
            "ppt/_rels/presentation.xml.rels": relationships(*reversed(targets)),
            "docProps/core.xml": CORE.format("Harbour plans"),
            **{
                name: f"<p:sld {SLIDE}><p:cSld><p:spTree>{content}</p:spTree></p:cSld></p:sld>"
                for name, content in zip(names, slides, strict=True)
            },
            **{
                f"ppt/slides/_rels/slide{number}.xml.rels": relationships(*targets)
                for number, targets in (related or {}).items()
            },
            **parts,
        }
    )


def workbook(
    sheets: Mapping[str, str],
    *,
    strings: Sequence[str] = (),
    styles: str = "",
    date1904: bool = False,
    parts: Mapping[str, str] = NO_PARTS,
) -> bytes:
    """Sheets with these rows, by name; `strings` are shared ones."""
    names = [f"xl/worksheets/sheet{number}.xml" for number in range(1, len(sheets) + 1)]
    entries = "".join(
        f'<sheet name="{name}" sheetId="{number}" r:id="s{number}"/>' for number, name in enumerate(sheets, start=1)
    )
    targets = [(f"s{number}", "worksheet", f"/{name}") for number, name in enumerate(names, start=1)]
    shared = "".join(string if string.startswith("<si") else f"<si><t>{string}</t></si>" for string in strings)
    return zipped(
        {
            "[Content_Types].xml": content_types({"xl/workbook.xml": WORKBOOK_TYPE}),
            "_rels/.rels": relationships(("main", "officeDocument", "xl/workbook.xml")),
            "xl/workbook.xml": f'<workbook {SHEET}><workbookPr date1904="{int(date1904)}"/><sheets>{entries}</sheets>'
            "</workbook>",
            "xl/_rels/workbook.xml.rels": relationships(
                *targets, ("t", "sharedStrings", "sharedStrings.xml"), ("y", "styles", "styles.xml")
            ),
            "xl/sharedStrings.xml": f"<sst {SHEET}>{shared}</sst>",
            "xl/styles.xml": f"<styleSheet {SHEET}>{styles}</styleSheet>",
            **{
                name: f"<worksheet {SHEET}><sheetData>{rows}</sheetData></worksheet>"
                for name, rows in zip(names, sheets.values(), strict=True)
            },
            **parts,
        }
    )


def inline_row(number: int, *values: str) -> str:
    cells = "".join(f'<c t="inlineStr"><is><t>{value}</t></is></c>' for value in values)
    return f'<row r="{number}">{cells}</row>'


def open_document(kind: str, body: str, *, styles: str = "", meta: str = "", manifest: str = "") -> bytes:
    """`kind` is "text", "spreadsheet" or "presentation"."""
    dc = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": f"<office:document-content {OPEN_DOCUMENT}><office:body><office:{kind}>{body}"
            f"</office:{kind}></office:body></office:document-content>",
            "styles.xml": f"<office:document-styles {OPEN_DOCUMENT}>{styles}</office:document-styles>",
            "meta.xml": f"<office:document-meta {OPEN_DOCUMENT} {dc}><office:meta>{meta}</office:meta>"
            "</office:document-meta>",
            "META-INF/manifest.xml": f"<manifest:manifest {OPEN_DOCUMENT}>{manifest}</manifest:manifest>",
        }
    )


def book(
    chapters: Mapping[str, str],
    *,
    title: str = "Harbours",
    spine: Sequence[str] = (),
    parts: Mapping[str, str] = NO_PARTS,
) -> bytes:
    """Chapters by file name; `spine` is their order, if another one."""
    items = "".join(
        f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in dict.fromkeys([*chapters])
    )
    order = "".join(f'<itemref idref="{name}"/>' for name in spine or chapters)
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    )
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "OEBPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
            f"<metadata><dc:title>{title}</dc:title></metadata><manifest>{items}</manifest><spine>{order}</spine>"
            "</package>",
            **{f"OEBPS/{name}": content for name, content in chapters.items()},
            **parts,
        }
    )


def page(title: str, *paragraphs: str) -> str:
    inner = "".join(f"<p>{text}</p>" for text in paragraphs)
    return f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head><body><h1>{title}</h1>{inner}</body></html>'
