from typing import Any

import pytest

from router.errors import Kind, RequestError
from router.protocol.translate.chat_turns import Turns

PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}


def read(*messages: Any, inline_system: bool = False) -> tuple[Turns, set[str]]:
    dropped: set[str] = set()
    return Turns(list(messages), inline_system=inline_system, dropped=dropped), dropped


def turns(*messages: Any) -> list[dict[str, Any]]:
    """Translate messages of which nothing is dropped."""
    translated, dropped = read(*messages)
    assert dropped == set()
    return translated.turns


def refused(*messages: Any, inline_system: bool = False) -> tuple[Kind, str | None]:
    with pytest.raises(RequestError) as refusal:
        read(*messages, inline_system=inline_system)
    return refusal.value.kind, refusal.value.param


def user(*parts: Any, **members: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts), **members}


def text(said: str, **members: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **members}


def call(identity: str, arguments: Any = "{}", name: str = "f") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*made: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(made), **members}


def result(identity: str, content: Any = "ok", **members: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": content, **members}


def use(identity: str, given: Any = None, name: str = "f") -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": name, "input": given or {}}


def outcome(identity: str, **members: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identity, **members}


HI = {"role": "user", "content": "Hi"}
SYSTEM = {"role": "system", "content": "Be brief."}
MARK = {"type": "ephemeral"}


def test_leading_system_messages() -> None:
    """System and developer messages before all others are one text, joined by line ends."""
    translated, dropped = read(SYSTEM, {"role": "developer", "content": [text("Speak"), text("German.")]}, HI)
    assert translated.system == "Be brief.\nSpeak\nGerman."
    assert (translated.turns, dropped) == ([HI], set())
    assert read(HI)[0].system is None
    assert read({"role": "system", "content": " "}, HI)[0].system is None


def test_system_blocks_that_are_marked_for_the_cache() -> None:
    """If one block is marked, blocks are sent, as a joined text could not carry the mark."""
    marked = text("Long.", cache_control=MARK)
    assert read(SYSTEM, {"role": "system", "content": [marked]}, HI)[0].system == [text("Be brief."), marked]
    assert read({**SYSTEM, "cache_control": MARK}, HI)[0].system == [text("Be brief.", cache_control=MARK)]


def test_later_system_messages() -> None:
    """A later system message is hoisted, or stays in its place for a model that takes it there."""
    hoisted, _ = read(SYSTEM, HI, {"role": "developer", "content": "Now in French."})
    assert (hoisted.system, hoisted.turns) == ("Be brief.\nNow in French.", [HI])
    inline, _ = read(SYSTEM, HI, {"role": "developer", "content": "Now in French."}, inline_system=True)
    assert inline.system == "Be brief."
    assert inline.turns == [HI, {"role": "system", "content": "Now in French."}]


def test_system_messages_hold_text_alone() -> None:
    """A picture in a system message cannot be sent; an unknown member of a hoisted message is named."""
    picture = {"type": "image_url", "image_url": {"url": "https://host/x.png"}}
    assert refused({"role": "system", "content": [text("x"), picture]}) == (
        Kind.UNSUPPORTED_PARAMETER,
        "messages[0].content[1]",
    )
    assert read({**SYSTEM, "weight": 1}, HI)[1] == {"messages.weight"}


def test_user_text() -> None:
    """A string stays a string, parts become blocks one for one, and the cache mark of a part stays on it."""
    assert turns(HI) == [HI]
    parts = [text("One"), text("two", cache_control=MARK)]
    assert turns(user(*parts)) == [user(*parts)]
    assert turns(HI, HI) == [HI, HI]
    assert turns({**HI, "cache_control": MARK}) == [user(text("Hi", cache_control=MARK))]


def test_blank_text_is_left_out() -> None:
    """Blank text, which Anthropic refuses, is left out, and a message of which nothing remains."""
    assert turns(user(text(""), text("x"), text(" \n"))) == [user(text("x"))]
    assert turns(HI, {"role": "assistant", "content": ""}, user(text("")), {"role": "user", "content": " "}) == [HI]
    assert turns({"role": "assistant", "content": [text(""), {"type": "refusal", "refusal": ""}]}) == []
    assert turns() == []


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("data:image/png;base64,iVBORw0KGgo=", PNG),
        ("https://host/x.png?a=b", {"type": "url", "url": "https://host/x.png?a=b"}),
        ("http://host/x.png", {"type": "url", "url": "http://host/x.png"}),
    ],
)
def test_images(url: str, source: dict[str, str]) -> None:
    """A data URI is split, an address passes; the detail has no counterpart and is named."""
    image = {"type": "image", "source": source}
    assert turns(user({"type": "image_url", "image_url": {"url": url}, "cache_control": MARK})) == [
        user({**image, "cache_control": MARK})
    ]
    translated, dropped = read(user({"type": "image_url", "image_url": {"url": url, "detail": "low"}}))
    assert translated.turns == [user(image)]
    assert dropped == {"messages.content.image_url.detail"}


def test_files() -> None:
    """A document's data is split and its name is its title; a file that is known by an id alone is refused."""
    file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}
    document = {"type": "document", "source": PDF, "title": "a.pdf"}
    assert turns(user({"type": "file", "file": file, "cache_control": MARK})) == [
        user({**document, "cache_control": MARK})
    ]
    del file["filename"], document["title"]
    assert turns(user({"type": "file", "file": file})) == [user(document)]
    translated, dropped = read(user({"type": "file", "file": {**file, "file_id": "file-1"}}))
    assert (translated.turns, dropped) == ([user(document)], {"messages.content.file.file_id"})
    assert refused(user({"type": "file", "file": {"file_id": "file-1"}})) == (
        Kind.UNSUPPORTED_PARAMETER,
        "messages[0].content[0].file.file_id",
    )


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}, ""),
        ({"type": "image_url", "image_url": {"url": "data:image/svg+xml,<svg/>"}}, ".image_url.url"),
        ({"type": "file", "file": {"file_data": "JVBERi0="}}, ".file.file_data"),
    ],
)
def test_parts_that_cannot_be_sent(part: Any, param: str) -> None:
    """Sound, and data that is not in base64, has no counterpart: it is refused, not dropped."""
    assert refused(user(text("x"), part)) == (Kind.UNSUPPORTED_PARAMETER, f"messages[0].content[1]{param}")


def test_unknown_parts_and_members_pass() -> None:
    """What nobody knows is for the upstream to judge: parts, and members of parts and messages."""
    part = {"type": "search_result", "source": "x", "content": []}
    assert turns(user(part, text("x", citations=[]), weight=1)) == [user(part, text("x", citations=[]), weight=1)]


def test_assistant_text() -> None:
    """Content and refusals, of a message or in its parts, are text."""
    said = {"role": "assistant", "content": "Yes."}
    assert turns(said) == [said]
    refusal = {"role": "assistant", "content": None, "refusal": "I cannot."}
    assert turns(refusal) == [{"role": "assistant", "content": "I cannot."}]
    parts = {"role": "assistant", "content": [text("No:"), {"type": "refusal", "refusal": "never."}], "refusal": None}
    assert turns(parts) == [{"role": "assistant", "content": [text("No:"), text("never.")]}]


def test_echoed_answers() -> None:
    """What clients send back with an answer and says nothing to the model is dropped, and named if it said anything."""
    echo: dict[str, Any] = {"role": "assistant", "content": "Yes.", "refusal": None, "annotations": [], "audio": None}
    said = {"role": "assistant", "content": "Yes."}
    assert turns({**echo, "tool_calls": None, "function_call": None, "reasoning_content": None}) == [said]
    translated, dropped = read(
        {
            **echo,
            "annotations": [{"type": "url_citation"}],
            "audio": {"id": "audio_1"},
            "reasoning": "Hm.",
            "reasoning_details": [{"type": "reasoning.text"}],
            "reasoning_content": "Hm.",
            "name": "bot",
        }
    )
    assert translated.turns == [said]
    assert dropped == {
        "messages.annotations",
        "messages.audio",
        "messages.reasoning",
        "messages.reasoning_details",
        "messages.reasoning_content",
        "messages.name",
    }


def test_signed_thinking() -> None:
    """Thinking goes back first if its signature came with it; without one it is dropped."""
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}
    redacted = {"type": "redacted_thinking", "data": "Zm9v"}
    said = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}
    assert turns({**said, "thinking_blocks": [thought, redacted]}) == [
        {"role": "assistant", "content": [thought, redacted, text("Yes.")]}
    ]
    translated, dropped = read({**said, "thinking_blocks": [{**thought, "signature": ""}]})
    assert translated.turns == [{"role": "assistant", "content": "Yes."}]
    assert dropped == {"messages.reasoning_content", "messages.thinking_blocks"}


def test_tool_calls() -> None:
    """Calls are tool uses after the text, their arguments parsed; the index of a streamed call is left out."""
    made = {**call("toolu_1", ' {"city": "Köln", "n": [1]} '), "index": 0}
    assert turns(HI, calls(made, call("toolu_2", ""), content="Let me look.")) == [
        HI,
        {
            "role": "assistant",
            "content": [text("Let me look."), use("toolu_1", {"city": "Köln", "n": [1]}), use("toolu_2")],
        },
    ]


@pytest.mark.parametrize("arguments", ["[]", "null", "1", '"x"', "{", "x", '{"a":NaN}', {}, [], 1, '{"a":' * 9000])
def test_arguments_that_are_no_object(arguments: Any) -> None:
    """Arguments that are no object in JSON are the client's fault."""
    where = "messages[1].tool_calls[0].function.arguments"
    assert refused(HI, calls(call("a", arguments))) == (Kind.INVALID_TYPE, where)


def test_other_calls_are_refused() -> None:
    """A call of a custom tool has no counterpart."""
    custom = {"id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}
    assert refused(calls(custom)) == (Kind.UNSUPPORTED_PARAMETER, "messages[0].tool_calls[0].type")


def test_tool_results_merge() -> None:
    """Consecutive results are one user turn, and the text that follows stands in it after them."""
    assert turns(
        calls(call("a"), call("b")),
        result("a", "1"),
        result("b", [text("2"), {"type": "image_url", "image_url": {"url": "https://host/x"}}]),
        HI,
        {"role": "user", "content": "More"},
    ) == [
        {"role": "assistant", "content": [use("a"), use("b")]},
        user(
            outcome("a", content="1"),
            outcome("b", content=[text("2"), {"type": "image", "source": {"type": "url", "url": "https://host/x"}}]),
            text("Hi"),
            text("More"),
        ),
    ]


def test_tool_results_stand_first() -> None:
    """A result that comes after the user's text, or after a hoisted system message, is put before the text."""
    ahead = turns(calls(call("a"), call("b")), result("a"), HI, SYSTEM, result("b"))
    assert ahead[1] == user(outcome("a", content="ok"), outcome("b", content="ok"), text("Hi"))
    apart = turns(calls(call("a")), result("a"), {"role": "assistant", "content": "x"}, calls(call("b")), result("b"))
    assert [turn["role"] for turn in apart] == ["assistant", "user", "assistant", "assistant", "user"]


def test_odd_tool_results() -> None:
    """A result may be empty, have a name, be marked for the cache or as an error."""
    assert turns(result("a", ""), result("b", None), result("c", [text("")])) == [
        user(outcome("a"), outcome("b"), outcome("c"))
    ]
    translated, dropped = read(result("a", "x", name="f", cache_control=MARK, is_error=True))
    assert translated.turns == [user(outcome("a", content="x", cache_control=MARK, is_error=True))]
    assert dropped == {"messages.name"}


def test_ids_of_calls() -> None:
    """An id of a kind that Anthropic takes is unchanged; one that another upstream made is spelt so, both times."""
    made, given = turns(calls(call("call_aB-9"), call("functions.f:0")), result("call_aB-9"), result("functions.f:0"))
    assert [block["id"] for block in made["content"]] == ["call_aB-9", "functions_f_0"]
    assert [block["tool_use_id"] for block in given["content"]] == ["call_aB-9", "functions_f_0"]


def test_legacy_functions() -> None:
    """The call of a function and its result, which have no id, get one; a result without a call is refused."""
    called = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}}
    answer = {"role": "function", "name": "f", "content": "2"}
    assert turns(HI, called, answer, called, answer) == [
        HI,
        {"role": "assistant", "content": [use("function_1", {"a": 1})]},
        user(outcome("function_1", content="2")),
        {"role": "assistant", "content": [use("function_3", {"a": 1})]},
        user(outcome("function_3", content="2")),
    ]
    assert refused(HI, answer) == (Kind.INVALID_TYPE, "messages[1].name")


def test_names_are_dropped() -> None:
    """A name has no counterpart, and is named once however many messages have one."""
    translated, dropped = read({**SYSTEM, "name": "x"}, {**HI, "name": "Ann"}, {**HI, "name": "Bob"})
    assert (translated.turns, dropped) == ([HI, HI], {"messages.name"})


def test_lost_thinking() -> None:
    """Thinking is lost if the last turn answers a call that does not begin with it."""
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}
    assert read(HI, calls(call("a")), result("a"))[0].thinking_is_lost
    assert read(HI, calls(call("a")), result("a"), HI)[0].thinking_is_lost
    assert not read(HI, calls(call("a"), thinking_blocks=[thought]), result("a"))[0].thinking_is_lost
    assert not read(HI, calls(call("a")), result("a"), {"role": "assistant", "content": "x"}, HI)[0].thinking_is_lost
    assert not read(result("a"))[0].thinking_is_lost
    assert not read(HI)[0].thinking_is_lost


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("Hi", ""),
        ({"content": "Hi"}, ".role"),
        ({"role": "critic", "content": "Hi"}, ".role"),
        ({"role": ["user"], "content": "Hi"}, ".role"),
        ({"role": "user"}, ".content"),
        ({"role": "user", "content": None}, ".content"),
        ({"role": "user", "content": 5}, ".content"),
        ({"role": "system", "content": {}}, ".content"),
        ({"role": "assistant", "content": 5}, ".content"),
        (user("Hi"), ".content[0]"),
        (user({"text": "Hi"}), ".content[0]"),
        (user({"type": ["text"]}), ".content[0]"),
        (user({"type": "text"}), ".content[0].text"),
        (user({"type": "refusal"}), ".content[0].refusal"),
        (user({"type": "image_url", "image_url": "https://host/x"}), ".content[0].image_url"),
        (user({"type": "image_url", "image_url": {}}), ".content[0].image_url.url"),
        (user({"type": "file"}), ".content[0].file"),
        (user({"type": "file", "file": {}}), ".content[0].file.file_data"),
        (
            user({"type": "file", "file": {"file_data": "data:a/b;base64,x", "filename": 5}}),
            ".content[0].file.filename",
        ),
        (result(""), ".tool_call_id"),
        ({"role": "tool", "content": "x"}, ".tool_call_id"),
        (result("a", 5), ".content"),
        ({"role": "function", "content": "x"}, ".name"),
        ({"role": "assistant", "tool_calls": {}}, ".tool_calls"),
        (calls("x"), ".tool_calls[0]"),  # type: ignore[arg-type] # on purpose
        (calls({"type": "function", "function": {"name": "f"}}), ".tool_calls[0].id"),
        (calls({"id": "a", "type": "function"}), ".tool_calls[0].function"),
        (calls({"id": "a", "function": {"arguments": "{}"}}), ".tool_calls[0].function.name"),
        ({"role": "assistant", "function_call": "f"}, ".function_call"),
        ({"role": "assistant", "function_call": {"name": 5}}, ".function_call.name"),
        ({"role": "assistant", "content": "x", "refusal": 5}, ".refusal"),
        ({"role": "assistant", "content": "x", "thinking_blocks": "x"}, ".thinking_blocks"),
        ({"role": "assistant", "content": "x", "thinking_blocks": ["x"]}, ".thinking_blocks[0]"),
    ],
)
def test_wrong_types(message: Any, param: str) -> None:
    """A message the API cannot take is the client's fault, and the refusal names the member."""
    assert refused(HI, message) == (Kind.INVALID_TYPE, f"messages[1]{param}")
