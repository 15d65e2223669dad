"""The list of models in both shapes, and the pages of Anthropic's."""

from __future__ import annotations

import pytest

from router.errors import Kind, RequestError
from router.web.models import anthropic_entry, anthropic_list, openai_list

NAMES = ("a", "b/c:d", "e", "f", "g")
CREATED = 1_700_000_000


def ids(**query: str) -> tuple[list[str], bool]:
    page = anthropic_list(NAMES, CREATED, query)
    names = [entry["id"] for entry in page["data"]]
    assert (page["first_id"], page["last_id"]) == ((names[0], names[-1]) if names else (None, None))
    return names, page["has_more"]


def test_openais_list_has_every_model() -> None:
    """Each under the name that the client writes, slashes and colons included."""
    listed = openai_list(NAMES, CREATED)
    assert listed["object"] == "list"
    assert [entry["id"] for entry in listed["data"]] == list(NAMES)
    assert listed["data"][0] == {"id": "a", "object": "model", "created": CREATED, "owned_by": "llm-router"}


def test_anthropics_entry_tells_a_moment() -> None:
    """The time is RFC 3339, as Anthropic's SDKs parse it."""
    assert anthropic_entry("a", CREATED) == {
        "type": "model",
        "id": "a",
        "display_name": "a",
        "created_at": "2023-11-14T22:13:20Z",
    }


def test_pages_follow_each_other() -> None:
    """Going on from the last id of each page shows every model once, and going back as well."""
    assert ids(limit="2") == (["a", "b/c:d"], True)
    assert ids(limit="2", after_id="b/c:d") == (["e", "f"], True)
    assert ids(limit="2", after_id="f") == (["g"], False)
    assert ids(limit="2", after_id="g") == ([], False)
    assert ids(limit="2", before_id="e") == (["a", "b/c:d"], False)
    assert ids(limit="2", before_id="g") == (["e", "f"], True)
    assert ids() == (list(NAMES), False)


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1.5", "٣"])
def test_a_limit_that_cannot_be_is_refused(limit: str) -> None:
    """By name, whatever it is."""
    with pytest.raises(RequestError) as caught:
        ids(limit=limit)
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_TYPE, "limit")


@pytest.mark.parametrize("param", ["after_id", "before_id"])
def test_an_unknown_id_is_not_found(param: str) -> None:
    """A page cannot begin at a model that the key may not see."""
    with pytest.raises(RequestError) as caught:
        ids(**{param: "none"})
    assert (caught.value.kind, caught.value.param) == (Kind.NOT_FOUND, param)
