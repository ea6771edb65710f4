"""The documents of the collection in the formats their names promise. Their sources are written in a little Markdown:
headings, paragraphs, list items and tables."""

import html
import io
from collections.abc import Callable, Iterator
from typing import Final

import docx
from fpdf import FPDF

Block = tuple[str, list[str]]
"""Kind (`h1`, `h2`, `p`, `ul` or `table`) and lines."""


def as_html(source: str) -> bytes:
    written = {
        "h1": lambda lines: f"<h1>{html.escape(lines[0])}</h1>",
        "h2": lambda lines: f"<h2>{html.escape(lines[0])}</h2>",
        "p": lambda lines: f"<p>{html.escape(' '.join(lines))}</p>",
        "ul": lambda lines: "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>",
        "table": lambda lines: "<table>" + "".join(map(_html_row, lines)) + "</table>",
    }
    body = "\n".join(written[kind](lines) for kind, lines in _blocks(source))
    return f"<!doctype html><html><head><meta charset='utf-8'></head><body><main>{body}</main></body></html>".encode()


def as_docx(source: str) -> bytes:
    document = docx.Document()
    for kind, lines in _blocks(source):
        if kind in ("h1", "h2"):
            document.add_heading(lines[0], level=int(kind[1]))
        elif kind == "ul":
            for line in lines:
                document.add_paragraph(line, style="List Bullet")
        else:
            document.add_paragraph(" ".join(lines))
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def as_pdf(source: str) -> bytes:
    pdf = FPDF()
    pdf.add_page()
    sizes = {"h1": 18, "h2": 14}
    for kind, lines in _blocks(source):
        pdf.set_font("Helvetica", style="B" if kind in sizes else "", size=sizes.get(kind, 11))
        for line in lines if kind == "ul" else [" ".join(lines)]:
            pdf.multi_cell(0, 6, f"- {line}" if kind == "ul" else line, new_x="LMARGIN", new_y="NEXT")
        pdf.ln(3)
    return bytes(pdf.output())


RENDERERS: Final[dict[str, Callable[[str], bytes]]] = {"html": as_html, "docx": as_docx, "pdf": as_pdf}
"""By ending; other formats are their sources."""


def _blocks(source: str) -> Iterator[Block]:
    for paragraph in source.strip().split("\n\n"):
        lines = paragraph.split("\n")
        if lines[0].startswith("#"):
            marks, _, text = lines[0].partition(" ")
            yield f"h{len(marks)}", [text]
        elif lines[0].startswith("- "):
            yield "ul", [line.removeprefix("- ") for line in lines]
        elif lines[0].startswith("|"):
            yield "table", [line for line in lines if "---" not in line]
        else:
            yield "p", lines


def _html_row(line: str) -> str:
    return "<tr>" + "".join(f"<td>{html.escape(cell.strip())}</td>" for cell in line.strip("|").split("|")) + "</tr>"
