"""The list of models, in the shape of the client's protocol (PROTOCOL 2.4): pure, `web.data` serves it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from router.errors import Kind, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAGE = 20
PAGE_MAX = 1000
"""Models on a page of Anthropic's list: what it gives unasked, and at most."""


def openai_list(names: Sequence[str], created: int) -> dict[str, Any]:
    """Return every model; `created` is a time in seconds since 1970."""
    return {"object": "list", "data": [openai_entry(name, created) for name in names]}


def openai_entry(name: str, created: int) -> dict[str, Any]:
    """Return one model."""
    return {"id": name, "object": "model", "created": created, "owned_by": "llm-router"}


def anthropic_list(names: Sequence[str], created: int, query: Mapping[str, str]) -> dict[str, Any]:
    """Return one page: after `after_id`, or before `before_id`, at most `limit` models.

    Raises:
        RequestError: INVALID_TYPE: `limit` is no number from 1 to `PAGE_MAX`. NOT_FOUND: there is no such id.
    """
    limit = query.get("limit", str(PAGE))
    if not limit.isascii() or not limit.isdigit() or len(limit) > 4 or not 1 <= int(limit) <= PAGE_MAX:
        raise RequestError(Kind.INVALID_TYPE, f"'limit' must be a number from 1 to {PAGE_MAX}.", param="limit")
    size = int(limit)
    if "before_id" in query:
        end = _place(names, query["before_id"], "before_id")
        start = max(0, end - size)
        more = start > 0
    else:
        start = _place(names, query["after_id"], "after_id") + 1 if "after_id" in query else 0
        end = start + size
        more = end < len(names)
    page = names[start:end]
    return {
        "data": [anthropic_entry(name, created) for name in page],
        "has_more": more,
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
    }


def anthropic_entry(name: str, created: int) -> dict[str, Any]:
    """Return one model."""
    moment = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": name, "display_name": name, "created_at": moment}


def _place(names: Sequence[str], name: str, param: str) -> int:
    try:
        return names.index(name)
    except ValueError:
        raise RequestError(Kind.NOT_FOUND, f"There is no model with the id of '{param}'.", param=param) from None
