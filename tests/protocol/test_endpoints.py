"""The rows of PROTOCOL 2: what is carried under which path, how it is read, and what is never carried."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.schema import MODEL_OPTIONAL, PIN_FAMILIES, Protocol
from router.protocol import anthropic, generic, media, openai, responses
from router.protocol.endpoints import Body, Endpoint, Endpoints
from router.protocol.envelope import Dialect

PLAIN = Endpoints(bare=False, unknown=False, pins={})
BARE = Endpoints(bare=True, unknown=False, pins={})
UNKNOWN = Endpoints(bare=False, unknown=True, pins={})
ALL = Endpoints(bare=True, unknown=True, pins=dict.fromkeys(PIN_FAMILIES, "u"))
METHODS = (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS")


class Row(NamedTuple):
    """What a row of the table says of POST requests to one path."""

    name: str
    view: str
    body: Body
    needs_model: bool
    flags: str = ""
    """Of `FLAGS` those that hold."""
    protocol: Protocol = Protocol.OPENAI
    dialect: Dialect = Dialect.OPENAI


FLAGS = ("asks_usage", "generates", "strict", "binary", "metered", "free", "keeps_id")
JSON, FORM, EITHER = Body.JSON, Body.FORM, Body.EITHER
CLAUDE, RESPONSES = Dialect.ANTHROPIC, Dialect.RESPONSES
SPEAKS = Protocol.ANTHROPIC

ROWS = {
    "/chat/completions": Row("chat", "openai+translated", JSON, True, "asks_usage generates strict metered"),
    "/completions": Row("completions", "openai", JSON, True, "asks_usage generates strict metered"),
    "/responses": Row("responses", "openai", JSON, False, "generates strict metered keeps_id", dialect=RESPONSES),
    "/responses/input_tokens": Row("responses", "openai", JSON, False, "free", dialect=RESPONSES),
    "/responses/compact": Row("responses", "openai", JSON, True, "generates metered", dialect=RESPONSES),
    "/embeddings": Row("embeddings", "openai", JSON, True, "metered"),
    "/images/generations": Row("images", "openai", JSON, False, "metered"),
    "/images/edits": Row("image_edits", "openai", EITHER, False, "metered"),
    "/images/variations": Row("image_variations", "openai", FORM, False, "metered"),
    "/audio/speech": Row("speech", "openai", JSON, True, "binary"),
    "/audio/transcriptions": Row("transcriptions", "openai", FORM, True, "binary metered"),
    "/audio/translations": Row("translations", "openai", FORM, True, "binary"),
    "/moderations": Row("moderations", "openai", JSON, False),
    "/rerank": Row("rerank", "openai", JSON, True),
    "/messages": Row("messages", "anthropic+translated", JSON, True, "generates strict metered", SPEAKS, CLAUDE),
    "/messages/count_tokens": Row("count_tokens", "anthropic", JSON, True, "free", SPEAKS, CLAUDE),
    "/decisions": Row("decisions", "openai", JSON, True, "generates metered"),
    "/systemone": Row("decisions", "openai", JSON, True, "generates metered"),
    "/videos": Row("videos", "openai", EITHER, False, "keeps_id"),
    "/videos/edits": Row("videos", "openai", EITHER, False, "keeps_id"),
    "/videos/extensions": Row("videos", "openai", EITHER, False, "keeps_id"),
}
READINGS = {
    "chat": openai.CHAT,
    "completions": openai.COMPLETIONS,
    "responses": responses.RESPONSES,
    "decisions": responses.RESPONSES,
    "images": media.IMAGES,
    "image_edits": media.IMAGES,
    "image_variations": media.IMAGES,
    "speech": media.SPEECH,
    "transcriptions": media.TRANSCRIPTIONS,
    "translations": media.TRANSCRIPTIONS,
    "messages": anthropic.MESSAGES,
    "count_tokens": anthropic.MESSAGES,
}
"""Endpoints that are not here are read by the generic dialect."""


def found(endpoints: Endpoints, method: str, path: str) -> Endpoint:
    endpoint = endpoints.find(method.encode(), path.encode())
    assert endpoint is not None
    return endpoint


@pytest.mark.parametrize(("path", "row"), ROWS.items(), ids=ROWS)
def test_every_row_is_carried_as_the_table_says(path: str, row: Row) -> None:
    """Name, protocol, dialect, members, body and kind of answer are those of the row, and the upstream's path too."""
    endpoint = found(PLAIN, "POST", "/v1" + path)
    seen = Row(
        endpoint.name,
        endpoint.view,
        endpoint.body,
        not endpoint.model_optional,
        " ".join(flag for flag in FLAGS if getattr(endpoint, flag)),
        endpoint.protocol,
        endpoint.dialect,
    )
    assert seen == row
    assert (endpoint.path, endpoint.methods, endpoint.named_id, endpoint.pinned) == (path.encode(), (b"POST",), "", "")
    assert endpoint.reading is READINGS.get(row.name, generic.JSON)


@pytest.mark.parametrize("path", ROWS)
def test_other_methods_are_found_to_be_refused(path: str) -> None:
    """A known path is known under every method, so that it can be told which ones it has; but see the next test."""
    for method in METHODS:
        endpoint = PLAIN.find(method, b"/v1" + path.encode())
        if (method, path) != (b"GET", "/responses"):
            assert endpoint is not None
            assert endpoint.methods == (b"POST",)


def test_a_web_socket_is_not_for_the_relay() -> None:
    """GET of the responses is a WebSocket, with or without the prefix, and nothing here answers it."""
    assert PLAIN.find(b"GET", b"/v1/responses") is None
    assert BARE.find(b"GET", b"/responses") is None
    assert ALL.find(b"GET", b"/v1/realtime") is None


@pytest.mark.parametrize("path", ROWS)
def test_the_prefix_may_be_left_out_only_where_configured(path: str) -> None:
    """Bare paths are the same endpoints; without the setting there are none, but for the rerank's."""
    assert BARE.find(b"POST", path.encode()) is BARE.find(b"POST", b"/v1" + path.encode())
    assert (PLAIN.find(b"POST", path.encode()) is not None) == (path == "/rerank")


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
def test_a_rerank_has_three_paths(path: str) -> None:
    """Jina's, llama.cpp's and Cohere's path are one endpoint, whatever is configured, and go on as `/rerank`."""
    for endpoints in (PLAIN, ALL):
        assert found(endpoints, "POST", path) == found(PLAIN, "POST", "/v1/rerank")


STORED = {
    "/responses/resp_1": ("responses", "GET DELETE", "resp_1"),
    "/responses/resp_1/cancel": ("responses", "POST", "resp_1"),
    "/responses/resp_1/input_items": ("responses", "GET", "resp_1"),
    "/videos/video_1": ("videos", "GET DELETE", "video_1"),
    "/videos/video_1/content": ("videos", "GET", "video_1"),
    "/videos/video_1/remix": ("videos", "POST", "video_1"),
    "/responses/a%2Fb": ("responses", "GET DELETE", "a/b"),
    "/responses/cancel": ("responses", "GET DELETE", "cancel"),
}


@pytest.mark.parametrize(("path", "row"), STORED.items(), ids=STORED)
def test_what_is_stored_is_found_by_its_id(path: str, row: tuple[str, str, str]) -> None:
    """The id decides where the request goes, its body and answer are not looked into, and the path goes on as it is."""
    for endpoints, prefix in ((PLAIN, "/v1"), (BARE, "/v1"), (BARE, "")):
        for method in METHODS:
            endpoint = endpoints.find(method, (prefix + path).encode())
            assert endpoint is not None
            assert (endpoint.name, endpoint.methods, endpoint.named_id) == (
                row[0], tuple(each.encode() for each in row[1].split()), row[2],
            )  # fmt: skip
            assert (endpoint.path, endpoint.body) == (path.encode(), Body.ANY)
            assert [flag for flag in FLAGS if getattr(endpoint, flag) and flag != "keeps_id"] == ["binary", "free"]


def test_only_a_remix_makes_something_new() -> None:
    """The id in a remix's answer is a new one, to be kept; looking, cancelling and deleting bring none."""
    kept = [path for path in STORED if found(PLAIN, "GET", "/v1" + path).keeps_id]
    assert kept == ["/videos/video_1/remix"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses/", "/v1/responses//cancel", "/v1/responses/resp_1/", "/v1/responses/resp_1/steal",
        "/v1/responses/resp_1/cancel/", "/v1/responses/resp_1/input_items/1", "/v1/responses/resp_1/content",
        "/v1/videos/", "/v1/videos//content", "/v1/videos/v/", "/v1/videos/v/cancel", "/v1/videos/v/content/1",
    ],
)  # fmt: skip
def test_what_stored_things_do_not_have_is_nothing(path: str) -> None:
    """Other operations, and no id at all, are not carried, even where unknown paths are."""
    for endpoints in (PLAIN, ALL):
        assert [endpoints.find(method, path.encode()) for method in METHODS] == [None] * len(METHODS)


@pytest.mark.parametrize("family", PIN_FAMILIES)
def test_a_family_is_carried_where_it_is_pinned(family: str) -> None:
    """With an upstream the whole tree of paths goes there, under every method that APIs use; without one it is 404."""
    pinned = Endpoints(bare=False, unknown=True, pins={family: "u"})
    for path in (f"/{family}", f"/{family}/id_1", f"/{family}/id_1/deep/%20er", f"/{family}/"):
        endpoint = found(pinned, "DELETE", "/v1" + path)
        assert (endpoint.pinned, endpoint.name, endpoint.path) == (family, family, path.encode())
        assert (endpoint.body, endpoint.binary, endpoint.metered, endpoint.free) == (Body.ANY, True, False, True)
        assert set(endpoint.methods) == {b"GET", b"POST", b"PUT", b"PATCH", b"DELETE"}
        assert endpoint.named_id == ""
        assert UNKNOWN.find(b"POST", b"/v1" + path.encode()) is None
        assert pinned.find(b"POST", path.encode()) is None
    other = next(each for each in PIN_FAMILIES if each != family)
    assert pinned.find(b"POST", f"/v1/{other}".encode()) is None
    assert pinned.find(b"POST", f"/v1/{family}x/1".encode()) is not None, "not the family, but an unknown path"


def test_what_can_be_configured_exists() -> None:
    """The names that the configuration takes are those of families and of endpoints that need no model."""
    assert all(found(ALL, "POST", f"/v1/{family}").pinned == family for family in PIN_FAMILIES)
    optional = {row.name for row in ROWS.values() if not row.needs_model}
    assert set(MODEL_OPTIONAL) == {*optional, "realtime"}


@pytest.mark.parametrize("path", ["/v1/new", "/v1/new/thing", "/v1/new-er_thing/v2.5:run/~x", "/v1/modelship"])
def test_unknown_paths_are_carried_only_where_configured(path: str) -> None:
    """A POST to a path that nobody here knows needs a model in its body, and its answer may be anything."""
    endpoint = found(UNKNOWN, "POST", path)
    assert (endpoint.name, endpoint.path, endpoint.view) == ("other", path[3:].encode(), "openai")
    assert (endpoint.body, endpoint.model_optional, endpoint.binary) == (Body.JSON, False, True)
    assert endpoint.reading is generic.JSON
    assert [UNKNOWN.find(method, path.encode()) for method in METHODS if method != b"POST"] == [None] * 6
    assert PLAIN.find(b"POST", path.encode()) is None
    assert UNKNOWN.find(b"POST", path[3:].encode()) is None


NEVER = {
    "administration": ["/v1/organization", "/v1/organization/admin_api_keys", "/v1/organizations/x", "/v1/projects/p"],
    "sockets and calls": ["/v1/realtime", "/v1/realtime/client_secrets", "/v1/realtime/sessions"],
    "ours": ["/v1/models", "/v1/models/m"],
    "in another case": ["/v1/Organization/x", "/v1/FILES", "/v1/Responses/resp_1/cancel", "/v1/vIdeos/v/remix"],
    "escaped": ["/v1/%6frganization/x", "/v1/organization%2Fx", "/v1/%66iles", "/v1/chat%2Fcompletions", "/v1/a%20b"],
    "dot segments": ["/v1/new/../organization", "/v1/./new", "/v1/..", "/v1/new/."],
    "empty steps": ["/v1/", "/v1//", "/v1//organization/x", "/v1/new//thing", "/v1/new/", "/v1/chat/completions/"],
    "parameters": ["/v1/;x/organization", "/v1/organization;x/y", "/v1/new;a=b", "/v1/*"],
    "no path of the API": ["/v1", "/v2/new", "/v1x/new", "", "*", "v1/new", "http://x.test/v1/new"],
}


@pytest.mark.parametrize("path", [path for paths in NEVER.values() for path in paths])
def test_some_paths_are_carried_under_no_setting(path: str) -> None:
    """An account's administration, however it is spelt, what is answered elsewhere, and what could mean two paths."""
    assert [UNKNOWN.find(method, path.encode()) for method in METHODS] == [None] * len(METHODS)
    assert [PLAIN.find(method, path.encode()) for method in METHODS] == [None] * len(METHODS)


_STEPS = st.lists(
    st.sampled_from([
        b"", b"v1", b"responses", b"videos", b"files", b"organization", b"models", b"chat", b"completions", b"rerank",
        b"resp_1", b"cancel", b"content", b"remix", b"new", b"%2e%2e", b"Files", b"\xff",
    ]),
    max_size=5,
)  # fmt: skip


@given(st.sampled_from(METHODS), st.builds(lambda steps: b"/" + b"/".join(steps), _STEPS) | st.binary(max_size=30))
def test_any_path_leads_to_one_place(method: bytes, path: bytes) -> None:
    """Nothing raises, and what is carried goes on under the path that came, with a name that makes a label."""
    names = {row.name for row in ROWS.values()} | {*PIN_FAMILIES, "other"}
    for endpoints in (PLAIN, BARE, UNKNOWN, ALL):
        endpoint = endpoints.find(method, path)
        if endpoint is not None:
            assert endpoint.name in names
            assert path.endswith(endpoint.path)
            assert path[: -len(endpoint.path)] in {b"", b"/v1", b"/v2"}
            assert endpoint.pinned in endpoint.name
            assert not (endpoint.pinned and endpoint.named_id)


def test_endpoints_tell_operators_what_they_are() -> None:
    """The table says how many paths and families it holds."""
    assert repr(Endpoints(bare=False, unknown=False, pins={"files": "u"})) == "<Endpoints: 24 paths, 1 families pinned>"
