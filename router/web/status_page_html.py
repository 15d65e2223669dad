"""The status page as one self-contained HTML document: no outside request, readable without its script.

Whatever comes from outside is escaped, and the browser is told besides to run nothing but the script that stands here,
known by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from router.web.status_page_view import CURVE_HEIGHT, CURVE_WIDTH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.web.status_page_view import Cell, Curve, Table, View


def _asset(name: str) -> str:
    """Return a style or script without indentation and lines of comment."""
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return "\n".join(it for line in lines if (it := line.strip()) and not it.startswith("//"))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_STYLE = _asset("status_page.css")
_SCRIPT = _asset("status_page.js")

POLICY = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy."""

REFRESH_S = 5
"""How often a browser without scripts loads the page again."""

LINKS = ("metrics", "healthz", "readyz", "-/config", "status.json", "status.txt")


def render(view: View) -> str:
    """Return the document."""
    alarms = "".join(f'<p class="alarm {tone}">{escape(text)}</p>' for text, tone in view.alarms)
    links = "".join(f'<a href="{link}">{link}</a>' for link in LINKS)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>llm-router</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<noscript><meta http-equiv="refresh" content="{REFRESH_S}"></noscript><style>{_STYLE}</style></head>'
        f'<body><header><h1>llm-router</h1>{_figures("facts", view.facts)}<small id="fresh" role="status"></small>'
        f'</header><main><div id="alarms">{alarms}</div>{_figures("strip", view.strip)}'
        f'<div id="curves">{"".join(map(_curve, view.curves))}</div>{"".join(map(_table, view.tables))}</main>'
        f"<footer>{links}</footer><script>{_SCRIPT}</script></body></html>\n"
    )


def _figures(name: str, figures: Iterable[tuple[str, str, str]]) -> str:
    rows = "".join(
        f"<div><dt>{escape(label)}</dt><dd{_class(tone)}>{escape(value)}</dd></div>" for label, value, tone in figures
    )
    return f'<dl id="{name}">{rows}</dl>'


def _curve(curve: Curve) -> str:
    return (
        f"<figure><figcaption>{escape(curve.label)} <b>{escape(curve.now)}</b><i>max {escape(curve.top)}</i>"
        f'</figcaption><svg viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(curve.label)}, last five minutes"><path d="{curve.path}"/></svg></figure>'
    )


def _table(table: Table) -> str:
    """Write a table; end tags that HTML lets out are left out, which is a fifth of the page."""
    heads = "".join(
        f'<th scope="col"{_class(column.tone)}{_title(column.about)}>{escape(column.label)}' for column in table.columns
    )
    rows = "".join(
        f"<tr>{''.join(_cell(cell, head=not column) for column, cell in enumerate(row))}" for row in table.rows
    )
    return (
        f'<section id="{table.id}"><h2>{escape(table.title)}<small>{escape(table.note)}</small></h2>'
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>'
        f"<thead><tr>{heads}</thead><tbody>{rows}</tbody></table></div></section>"
    )


def _cell(cell: Cell, *, head: bool) -> str:
    tag = 'th scope="row"' if head else "td"
    content = _lines(cell) if cell.lines else escape(cell.text)
    return f"<{tag}{_class(cell.tone)}>{content}"


def _lines(cell: Cell) -> str:
    """Write the lines of a cell: as a grid where each has several parts, so that they stand under each other."""
    parts = ["".join(f"<span{_class(tone)}>{escape(text)}</span>" for text, tone in line) for line in cell.lines]
    if len(cell.lines[0]) > 1:
        return f'<div class="l{len(cell.lines[0])}">{"".join(parts)}</div>'
    return "".join(f'<div class="l1">{part}</div>' for part in parts)


def _class(tone: str) -> str:
    return f' class="{tone}"' if " " in tone else f" class={tone}" if tone else ""


def _title(about: str) -> str:
    return f' title="{escape(about)}"' if about else ""
