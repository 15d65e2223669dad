#!/usr/bin/env python3
"""Makes the JSON of the two Grafana dashboards, which is committed beside it, from what `panels.py` says they show.

    python3 deploy/grafana/dashboards.py            writes dashboards/*.json
    python3 deploy/grafana/dashboards.py --check    exit status 1 if a file is not what this script makes

Place, id and the long tail of Grafana's options follow from the kind of a panel. The JSON is that of schema version 39,
which Grafana 10 and later read: imported by hand, or provisioned as files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from panels import ANNOTATIONS, BOARDS, Board, Panel, Row

FOLDER = Path(__file__).parent / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
"""Columns of Grafana's grid."""

TABLE_COLUMNS = {
    "instance": "router", "version": "version", "loop": "event loop", "hash": "configuration", "Value #C": "refused",
    "Value #D": "client connections", "Value #E": "uptime",
}  # fmt: skip


def dashboard(board: Board) -> dict[str, Any]:
    """The JSON of a dashboard."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["llm-router"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "links": [
            {
                "type": "dashboards", "title": "LLM router", "tags": ["llm-router"], "asDropdown": False,
                "includeVars": True, "keepTime": True, "targetBlank": False,
            }
        ],
        "annotations": {"list": [annotation(*each) for each in ANNOTATIONS]},
        "templating": {"list": [datasource_variable(), *(variable(*each) for each in board.variables)]},
        "panels": placed(board.rows),
    }  # fmt: skip


def annotation(name: str, colour: str, expr: str, text: str) -> dict[str, Any]:
    """A mark in every picture of a dashboard."""
    return {
        "name": name, "datasource": DATASOURCE, "enable": True, "iconColor": colour, "expr": expr, "step": "60s",
        "titleFormat": name, "textFormat": text,
    }  # fmt: skip


def datasource_variable() -> dict[str, Any]:
    """Which Prometheus is asked."""
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}


def variable(name: str, label: str, query: str) -> dict[str, Any]:
    """A choice of values; all of them at first.

    "All" is `.*` for models and upstreams. For jobs and instances it is the list of those that are routers: other
    processes have metrics named `process_…` too.
    """
    everything = {} if name in ("job", "instance") else {"allValue": ".*"}
    return {
        "name": name, "label": label, "type": "query", "datasource": DATASOURCE, "definition": query,
        "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1, "multi": True, "includeAll": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]}, **everything,
    }  # fmt: skip


def placed(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    """Every row and panel with an id and a place: panels from left to right, a new line where they do not fit."""
    result: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        result.append({"id": len(result) + 1, **heading, "gridPos": place})
        left, top, tallest = 0, top + 1, 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                left, top, tallest = 0, top + tallest, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            result.append({"id": len(result) + 1, **drawn(panel), "gridPos": place})
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return result


def drawn(panel: Panel) -> dict[str, Any]:
    """The JSON of a panel without its place."""
    instant = panel.kind in ("stat", "table")
    targets = [
        {
            "refId": chr(ord("A") + number), "datasource": DATASOURCE, "expr": query.expr,
            "legendFormat": query.legend or "__auto", "instant": instant, "range": not instant, "editorMode": "code",
            "format": {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series"),
        }
        for number, query in enumerate(panel.queries)
    ]  # fmt: skip
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults(panel), "overrides": overrides(panel)},
        "options": OPTIONS[panel.kind],
        **({"repeat": panel.repeat, "repeatDirection": "h", "maxPerRow": WIDTH // panel.width} if panel.repeat else {}),
        **({"transformations": joined_table()} if panel.kind == "table" else {}),
    }


def defaults(panel: Panel) -> dict[str, Any]:
    """Unit, bounds, colours, and for lines how they are drawn."""
    result: dict[str, Any] = {
        "unit": panel.unit,
        "noValue": panel.empty,
        "color": {"mode": "thresholds" if panel.kind in ("stat", "state-timeline") else "palette-classic"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": colour} for value, colour in panel.thresholds],
        },
        "mappings": [
            {"type": "value", "options": {str(value): {"text": text, "color": colour}}}
            for value, text, colour in panel.mappings
        ],
    }
    result |= {name: bound for name, bound in zip(("min", "max"), panel.bounds, strict=True) if bound is not None}
    if panel.decimals is not None:
        result["decimals"] = panel.decimals
    if panel.kind == "timeseries":
        result["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "scaleDistribution": {"type": "log", "log": 10} if panel.log else {"type": "linear"},
        }
        if panel.log:
            del result["min"]  # a logarithm has no zero
    elif panel.kind == "state-timeline":
        result["custom"] = {"lineWidth": 0, "fillOpacity": 70}
    return result


def overrides(panel: Panel) -> list[dict[str, Any]]:
    """Series with a colour of their own, and the columns of the table that are no plain numbers."""
    result = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in panel.colours.items()
    ]
    if panel.kind == "table":
        answers = {"1": {"text": "no", "color": "green"}, "0": {"text": "REFUSED", "color": "red"}}
        result += [
            {
                "matcher": {"id": "byName", "options": "refused"},
                "properties": [
                    {"id": "mappings", "value": [{"type": "value", "options": answers}]},
                    {"id": "custom.cellOptions", "value": {"type": "color-text"}},
                ],
            },
            {"matcher": {"id": "byName", "options": "uptime"}, "properties": [{"id": "unit", "value": "s"}]},
        ]
    return result


def joined_table() -> list[dict[str, Any]]:
    """One line for each router, from queries that have one each; the columns in their order."""
    excluded = ("Time", "Time 1", "Time 2", "Time 3", "Time 4", "Time 5", "Value #A", "Value #B")
    return [
        {"id": "joinByField", "options": {"byField": "instance", "mode": "outer"}},
        {
            "id": "organize",
            "options": {
                "excludeByName": dict.fromkeys(excluded, True),
                "indexByName": {name: place for place, name in enumerate(TABLE_COLUMNS)},
                "renameByName": TABLE_COLUMNS,
            },
        },
    ]


OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
    },
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5},
        "yAxis": {"unit": "s", "axisPlacement": "left"},
        "rowsFrame": {"layout": "le"},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": False},
    },
    "state-timeline": {
        "mergeValues": True,
        "showValue": "never",
        "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single"},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}
"""Of each kind of panel, what is the same for all."""


def files() -> dict[Path, str]:
    """What each file must hold."""
    return {FOLDER / f"{board.uid}.json": json.dumps(dashboard(board), indent=1) + "\n" for board in BOARDS}


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` only say which are not as they should be."""
    stale = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    if arguments == ["--check"]:
        sys.stderr.writelines(f"{path} is not what dashboards.py makes\n" for path in stale)
        return 1 if stale else 0
    if arguments:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    FOLDER.mkdir(exist_ok=True)
    for path in stale:
        path.write_text(files()[path])
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
