"""The API reference at `/docs`: one page of plain HTML, made from the OpenAPI document. It loads nothing."""

import base64
import hashlib
import json
from html import escape
from typing import Any, Final

from services.gateway.openapi.merge import Document

_METHODS: Final = ("get", "post", "put", "patch", "delete", "head", "options")
_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
details { border: 1px solid #8886; border-radius: .4rem; margin: .4rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; }
code, pre { font: .85rem/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; background: #8881; padding: .6rem; border-radius: .4rem; }
.method { display: inline-block; min-width: 4.5rem; font-weight: 700; }
th, td { text-align: left; padding: .1rem .8rem .1rem 0; vertical-align: top; }
"""
# The page may show its own style and do nothing else.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")
    + "'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def render(document: Document) -> bytes:
    """The whole page, UTF-8."""
    info = document["info"]
    operations = "\n".join(
        _operation(method, path, item[method])
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    )
    schemas = "\n".join(
        f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code></summary>{_json(schema)}</details>'
        for name, schema in document["components"].get("schemas", {}).items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])} API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body><h1>{escape(info["title"])} API <small>{escape(info["version"])}</small></h1>
<p>{escape(info.get("description", ""))} For programs: <a href="/openapi.json">openapi.json</a>.</p>
<h2>Operations</h2>
{operations}
<h2>Schemas</h2>
{schemas}
</body></html>
""".encode()


def _operation(method: str, path: str, operation: Document) -> str:
    credential = "needs a credential" if operation.get("security") else "needs no credential"
    parts = [f"<p>{escape(operation.get('description') or operation.get('summary', ''))} <em>({credential})</em></p>"]
    if rows := [_parameter(item) for item in operation.get("parameters", ())]:
        parts.append(f"<h4>Parameters</h4><table>{''.join(rows)}</table>")
    if body := operation.get("requestBody"):
        parts.append(f"<h4>Body</h4>{_content(body)}")
    answers = "".join(
        f"<tr><th>{escape(status)}</th><td>{escape(answer.get('description', ''))}{_content(answer)}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    parts.append(f"<h4>Answers</h4><table>{answers}</table>")
    summary = escape(operation.get("summary", ""))
    title = f'<span class="method">{method.upper()}</span><code>{escape(path)}</code> {summary}'
    return f"<details><summary>{title}</summary>{''.join(parts)}</details>"


def _parameter(parameter: Document) -> str:
    required = "required" if parameter.get("required") else "optional"
    return (
        f"<tr><th><code>{escape(parameter.get('name', ''))}</code></th>"
        f"<td>{escape(parameter.get('in', ''))}, {required}</td>"
        f"<td>{escape(parameter.get('description', ''))}{_schema(parameter.get('schema', {}))}</td></tr>"
    )


def _content(holder: Document) -> str:
    if "$ref" in holder:
        return f" {escape(holder['$ref'].rpartition('/')[2])}"
    return "".join(
        f"<div><code>{escape(media)}</code>{_schema(item.get('schema', {}))}</div>"
        for media, item in holder.get("content", {}).items()
    )


def _schema(schema: Any) -> str:
    if isinstance(schema, dict) and "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f' <a href="#schema-{name}"><code>{name}</code></a>'
    return f" <code>{escape(json.dumps(schema))}</code>" if schema else ""


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2))}</pre>"
