"""A board as data, and its JSON for Grafana (dashboard JSON model, schema 39)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

COLUMNS: Final = 24
_HEIGHT: Final = 8
_PROMETHEUS: Final = {"type": "prometheus", "uid": "prometheus"}


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and the name of its lines: `{{label}}` is replaced by the label's value."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over time. `warn` is the value from which it is red; `explained` says how to read it."""

    title: str
    queries: Sequence[Query]
    explained: str
    unit: str = "short"
    warn: float | None = None
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: Sequence[Panel]


def board(title: str, uid: str, rows: Sequence[Row], *, variable: str, values: str) -> dict[str, Any]:
    """The JSON of a board; `variable` is chosen from the values of the expression `values`."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        panels.append({**_place(0, top, COLUMNS, 1), "id": len(panels) + 1, "type": "row", "title": row.title})
        width = COLUMNS // min(3, len(row.panels))
        for number, panel in enumerate(row.panels):
            line, column = divmod(number, 3)
            place = _place(column * width, top + 1 + line * _HEIGHT, width, _HEIGHT)
            panels.append({**place, "id": len(panels) + 1, **_timeseries(panel)})
        top += 1 + _HEIGHT * (-(-len(row.panels) // 3))
    return {
        "uid": uid,
        "title": title,
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_choice(variable, values)]},
        "panels": panels,
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _timeseries(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.warn is not None:
        steps.append({"color": "red", "value": panel.warn})
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.explained,
        "datasource": _PROMETHEUS,
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query.expression, "legendFormat": query.legend or "__auto"}
            for number, query in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {
                    "fillOpacity": 30 if panel.stacked else 5,
                    "stacking": {"mode": "normal" if panel.stacked else "none"},
                    "thresholdsStyle": {"mode": "off" if panel.warn is None else "line"},
                },
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _choice(name: str, values: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _PROMETHEUS,
        "query": {"query": values, "refId": "values"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }
