from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import Kind, RequestError
from router.protocol.translate.chat_messages import ChatMessages


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **more}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def result(identity: str, content: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identity, **({} if content is None else {"content": content}), **more}


def call(identity: str, name: str = "f", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": name, "input": arguments}


def chat_call(identity: str, arguments: str, name: str = "f") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def translate(*turns: Any, system: Any = None, keep_thinking: bool = False) -> tuple[list[dict[str, Any]], set[str]]:
    dropped: set[str] = set()
    return ChatMessages(system, list(turns), keep_thinking=keep_thinking, dropped=dropped).messages, dropped


PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
PNG_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}
PDF_URI = "data:application/pdf;base64,JVBE"
THINKING = {"type": "thinking", "thinking": "hm", "signature": "s1"}

KEPT: dict[str, tuple[list[Any], list[dict[str, Any]]]] = {
    "string": ([{"role": "user", "content": "hi"}], [{"role": "user", "content": "hi"}]),
    "one text": ([user(text("hi"))], [{"role": "user", "content": "hi"}]),
    "no text": ([user(text(""))], [{"role": "user", "content": ""}]),
    "nothing": ([user()], [{"role": "user", "content": ""}]),
    "texts": ([user(text("a"), text("b"))], [{"role": "user", "content": [text("a"), text("b")]}]),
    "unknown member of a part": ([user(text("a", later=1))], [{"role": "user", "content": [text("a", later=1)]}]),
    "unknown part": (
        [user(text("a"), {"type": "video_url", "video_url": {"url": "u"}})],
        [{"role": "user", "content": [text("a"), {"type": "video_url", "video_url": {"url": "u"}}]}],
    ),
    "unknown member": ([{**user(text("a")), "later": 1}], [{"role": "user", "content": "a", "later": 1}]),
    "image data": ([user(PNG)], [{"role": "user", "content": [PNG_PART]}]),
    "image address": (
        [user({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}})],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}],
    ),
    "document": (
        [user(PDF)],
        [
            {
                "role": "user",
                "content": [{"type": "file", "file": {"filename": "document.pdf", "file_data": PDF_URI}}],
            }
        ],
    ),
    "titled document": (
        [user({**PDF, "title": "a.pdf"})],
        [{"role": "user", "content": [{"type": "file", "file": {"filename": "a.pdf", "file_data": PDF_URI}}]}],
    ),
    "document with an empty title": (
        [user({**PDF, "title": ""}, text("a"))],
        [
            {
                "role": "user",
                "content": [{"type": "file", "file": {"filename": "document.pdf", "file_data": PDF_URI}}, text("a")],
            }
        ],
    ),
    "plain document": (
        [user({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}})],
        [{"role": "user", "content": "words"}],
    ),
    "composed document": (
        [user({"type": "document", "source": {"type": "content", "content": [text("a"), PNG]}})],
        [{"role": "user", "content": [text("a"), PNG_PART]}],
    ),
    "search result": (
        [user({"type": "search_result", "title": "T", "source": "https://x", "content": [text("a"), text("b")]})],
        [{"role": "user", "content": "T\nhttps://x\na\nb"}],
    ),
    "compacted conversation": (
        [assistant({"type": "compaction", "content": "so far", "signature": "s"}), user(text("go on"))],
        [{"role": "assistant", "content": "so far"}, {"role": "user", "content": "go on"}],
    ),
    "answer": ([{"role": "assistant", "content": "hi"}], [{"role": "assistant", "content": "hi"}]),
    "answer in pieces": ([assistant(text("a"), text("b"))], [{"role": "assistant", "content": "ab"}]),
    "empty answer": ([assistant()], [{"role": "assistant", "content": ""}]),
    "answer with an unknown part": (
        [assistant(text("a"), {"type": "later"})],
        [{"role": "assistant", "content": [text("a"), {"type": "later"}]}],
    ),
    "call": (
        [assistant(call("t1", x=1, y=["a b", {}]))],
        [{"role": "assistant", "content": None, "tool_calls": [chat_call("t1", '{"x":1,"y":["a b",{}]}')]}],
    ),
    "calls and text": (
        [assistant(text("wait"), call("t1"), call("t2", "g"))],
        [
            {
                "role": "assistant",
                "content": "wait",
                "tool_calls": [chat_call("t1", "{}"), chat_call("t2", "{}", "g")],
            }
        ],
    ),
    "results": (
        [user(result("t1", "a"), result("t2", [text("b")]), result("t3"))],
        [
            {"role": "tool", "tool_call_id": "t1", "content": "a"},
            {"role": "tool", "tool_call_id": "t2", "content": "b"},
            {"role": "tool", "tool_call_id": "t3", "content": ""},
        ],
    ),
    "result of several texts": (
        [user(result("t1", [text("a"), text("b")]))],
        [{"role": "tool", "tool_call_id": "t1", "content": [text("a"), text("b")]}],
    ),
    "results come first": (
        [user(text("x"), result("t1", "a"), text("y"), result("t2", "b"))],
        [
            {"role": "tool", "tool_call_id": "t1", "content": "a"},
            {"role": "tool", "tool_call_id": "t2", "content": "b"},
            {"role": "user", "content": [text("x"), text("y")]},
        ],
    ),
    "image in a result": (
        [user(result("t1", [text("a"), PNG]), result("t2", [PNG]), text("y"))],
        [
            {"role": "tool", "tool_call_id": "t1", "content": "a"},
            {"role": "tool", "tool_call_id": "t2", "content": ""},
            {"role": "user", "content": [PNG_PART, PNG_PART, text("y")]},
        ],
    ),
    "success": (
        [user(result("t1", "a", is_error=False))],
        [{"role": "tool", "tool_call_id": "t1", "content": "a"}],
    ),
    "later system": (
        [user(text("a")), {"role": "system", "content": [text("s"), text("t")]}, user(text("b"))],
        [{"role": "user", "content": "a"}, {"role": "system", "content": "s\nt"}, {"role": "user", "content": "b"}],
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept(name: str) -> None:
    """Turns become messages in the same order, and nothing of them is said to be lost."""
    turns, messages = KEPT[name]
    assert translate(*turns) == (messages, set())


DROPPED: dict[str, tuple[list[Any], list[dict[str, Any]], set[str]]] = {
    "thinking": (
        [assistant(THINKING, {"type": "redacted_thinking", "data": "d"}, text("a"))],
        [{"role": "assistant", "content": "a"}],
        {"messages.content.thinking", "messages.content.redacted_thinking"},
    ),
    "nothing but thinking": (
        [assistant(THINKING)],
        [{"role": "assistant", "content": ""}],
        {"messages.content.thinking"},
    ),
    "failure": (
        [user(result("t1", "a", is_error=True))],
        [{"role": "tool", "tool_call_id": "t1", "content": "a"}],
        {"messages.content.is_error"},
    ),
    "marks": (
        [
            user(text("a", cache_control={}, citations=[]), result("t1", "a", cache_control={})),
            assistant({**call("t2"), "cache_control": {}, "caller": {"type": "direct"}, "toolset_name": "x"}),
            user({**PNG, "cache_control": {}, "transformations": {}}),
        ],
        [
            {"role": "tool", "tool_call_id": "t1", "content": "a"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": None, "tool_calls": [chat_call("t2", "{}")]},
            {"role": "user", "content": [PNG_PART]},
        ],
        {
            "messages.content.cache_control",
            "messages.content.citations",
            "messages.content.caller",
            "messages.content.toolset_name",
            "messages.content.transformations",
        },
    ),
    "words about a document": (
        [
            user({**PDF, "title": "a.pdf", "context": "c"}),
            user({"type": "document", "title": "t", "source": {"type": "text", "data": "words"}}),
        ],
        [
            {"role": "user", "content": [{"type": "file", "file": {"filename": "a.pdf", "file_data": PDF_URI}}]},
            {"role": "user", "content": "words"},
        ],
        {"messages.content.context", "messages.content.title"},
    ),
    "server tools": (
        [
            assistant(
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                {"type": "mcp_tool_use", "id": "m", "name": "x", "input": {}},
                {"type": "fallback", "to": {}},
                {"type": "mcp_tool_listing"},
                text("found"),
            ),
            user(result("t", [{"type": "tool_reference", "tool_name": "x"}])),
        ],
        [{"role": "assistant", "content": "found"}, {"role": "tool", "tool_call_id": "t", "content": ""}],
        {
            "messages.content.server_tool_use",
            "messages.content.web_search_tool_result",
            "messages.content.mcp_tool_use",
            "messages.content.mcp_tool_listing",
            "messages.content.fallback",
            "messages.content.tool_reference",
        },
    ),
    "member of a turn that becomes tool messages": (
        [{**user(result("t1", "a")), "later": 1}],
        [{"role": "tool", "tool_call_id": "t1", "content": "a"}],
        {"messages.later"},
    ),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_is_left_out(name: str) -> None:
    """What a chat has no place for is left out, and named."""
    turns, messages, dropped = DROPPED[name]
    assert translate(*turns) == (messages, dropped)


def test_members_that_are_null() -> None:
    """Clients send answers back as they read them, with nulls for what was not there: nothing is lost with those."""
    block = {**text("a"), "citations": None, "cache_control": None}
    use = {**call("t1"), "caller": None, "toolset_name": None}
    messages, dropped = translate(assistant(block, use))
    assert messages == [{"role": "assistant", "content": "a", "tool_calls": [chat_call("t1", "{}")]}]
    assert dropped == set()


@pytest.mark.parametrize(
    ("system", "content"),
    [
        ("s", "s"),
        ([text("s")], "s"),
        ([text("s"), text("t")], "s\nt"),
        ("", None),
        ([], None),
        ([text("")], None),
        (None, None),
    ],
)
def test_system(system: Any, content: str | None) -> None:
    """The system prompt is the first message, one string; an empty one is none."""
    messages, dropped = translate(user(text("hi")), system=system)
    first = [] if content is None else [{"role": "system", "content": content}]
    assert (messages, dropped) == ([*first, {"role": "user", "content": "hi"}], set())


def test_marks_in_the_system_prompt() -> None:
    """A cache mark in the system prompt is left out, and named as such."""
    assert translate(system=[text("s", cache_control={})]) == (
        [{"role": "system", "content": "s"}],
        {"system.cache_control"},
    )


def test_signed_thinking_is_kept_if_wanted() -> None:
    """A model that takes them is given signed thinking blocks as they are; thinking without a signature is none."""
    redacted = {"type": "redacted_thinking", "data": "d"}
    unsigned = {"type": "thinking", "thinking": "hm", "signature": ""}
    messages, dropped = translate(assistant(THINKING, redacted, unsigned, text("a")), keep_thinking=True)
    assert messages == [{"role": "assistant", "content": "a", "thinking_blocks": [THINKING, redacted]}]
    assert dropped == {"messages.content.thinking"}


IMAGE_FILE = {"type": "image", "source": {"type": "file", "file_id": "f"}}


@pytest.mark.parametrize(
    ("turn", "place"),
    [
        (user(IMAGE_FILE), ".content[0].source"),
        (user(result("t", [text("a"), IMAGE_FILE])), ".content[0].content[1].source"),
        (user({"type": "document", "source": {"type": "file", "file_id": "f"}}), ".content[0].source"),
        (user({"type": "document", "source": {"type": "url", "url": "https://x"}}), ".content[0].source"),
        (user({"type": "container_upload", "file_id": "f"}), ".content[0]"),
    ],
)
def test_what_is_refused(turn: dict[str, Any], place: str) -> None:
    """What can only be fetched by Anthropic is refused, and the refusal names the place."""
    with pytest.raises(RequestError) as refused:
        translate(user(text("a")), turn)
    assert (refused.value.kind, refused.value.param) == (Kind.UNSUPPORTED_PARAMETER, f"messages[1]{place}")


@pytest.mark.parametrize(
    ("turn", "place"),
    [
        ("hi", ""),
        ({"content": "hi"}, ".role"),
        ({"role": "tool", "content": "hi"}, ".role"),
        ({"role": ["user"], "content": "hi"}, ".role"),
        ({"role": "user"}, ".content"),
        ({"role": "assistant", "content": None}, ".content"),
        ({"role": "system", "content": {}}, ".content"),
        ({"role": "system", "content": [PNG]}, ".content[0]"),
        (user("hi"), ".content[0]"),
        (user({"text": "hi"}), ".content[0]"),
        (user({"type": ["text"]}), ".content[0]"),
        (user({"type": "text"}), ".content[0].text"),
        (user({"type": "image"}), ".content[0].source"),
        (user({"type": "image", "source": {"type": "base64", "data": "x"}}), ".content[0].source.media_type"),
        (user({"type": "image", "source": {"type": "url"}}), ".content[0].source.url"),
        (user({"type": "document", "source": {"type": "text"}}), ".content[0].source.data"),
        (user({"type": "document", "source": {"type": "content", "content": [PDF]}}), ".content[0].source.content[0]"),
        (user({"type": "search_result", "source": "x", "content": []}), ".content[0].title"),
        (user({"type": "tool_result", "content": "a"}), ".content[0].tool_use_id"),
        (user(result("t", 5)), ".content[0].content"),
        (user(result("t", [5])), ".content[0].content[0]"),
        (assistant({"type": "tool_use", "id": "a", "name": "f"}), ".content[0].input"),
        (assistant({"type": "tool_use", "id": "a", "name": "f", "input": "{}"}), ".content[0].input"),
        (assistant({"type": "tool_use", "id": 1, "name": "f", "input": {}}), ".content[0].id"),
        (assistant({"type": "tool_use", "id": "a", "input": {}}), ".content[0].name"),
    ],
)
def test_wrong_types(turn: Any, place: str) -> None:
    """A member of a wrong type is refused, and the refusal names its place."""
    with pytest.raises(RequestError) as refused:
        translate(turn)
    assert (refused.value.kind, refused.value.param) == (Kind.INVALID_TYPE, f"messages[0]{place}")


@pytest.mark.parametrize("system", [5, {}, [5], [PNG], [{"type": "text"}]])
def test_wrong_types_in_the_system_prompt(system: Any) -> None:
    """A system prompt is a string or text blocks."""
    with pytest.raises(RequestError) as refused:
        translate(system=system)
    assert refused.value.kind is Kind.INVALID_TYPE
    assert str(refused.value.param).startswith("system")


texts = st.text(max_size=5).map(text)
images = st.just(PNG)
results = st.builds(
    result,
    st.sampled_from(["t1", "t2"]),
    st.none() | st.text(max_size=5) | st.lists(texts | images | st.just(PDF), max_size=3),
)
calls = st.builds(call, st.sampled_from(["t1", "t2"]), st.just("f"))
asked = st.lists(texts | images | results | st.just(PDF), max_size=4).map(lambda blocks: user(*blocks))
answered = st.lists(texts | calls | st.just(THINKING), max_size=4).map(lambda blocks: assistant(*blocks))


@given(st.lists(asked | answered, max_size=5), st.none() | st.text(max_size=5))
def test_valid_requests_give_valid_chats(conversation: list[dict[str, Any]], system: str | None) -> None:
    """Every message of a translated conversation has the shape a chat wants, whatever stands beside what."""
    for message in translate(*conversation, system=system)[0]:
        content = message["content"]
        if message["role"] == "assistant":
            assert isinstance(content, str) or message["tool_calls"]
        elif message["role"] == "tool":
            assert message["tool_call_id"] in ("t1", "t2")
            assert isinstance(content, str) or {part["type"] for part in content} == {"text"}
        elif message["role"] == "user":
            assert isinstance(content, str) or {part["type"] for part in content} <= {"text", "image_url", "file"}
        else:
            assert message["role"] == "system"
            assert content
