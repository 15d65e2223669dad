import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import Kind, RequestError
from router.protocol.translate.common import Options, Translated
from router.protocol.translate.request_to_chat import to_chat

ASK = [{"role": "user", "content": "hi"}]
TOOL = {"name": "add", "description": "Adds.", "input_schema": {"type": "object", "properties": {}}}


def translate(options: Options | None = None, **members: Any) -> Translated:
    body = {"model": "claude", "max_tokens": 100, "messages": ASK, **members}
    return to_chat(json.dumps(body).encode(), "gpt", options or Options())


def members_of(translated: Translated) -> dict[str, Any]:
    """What is sent beside what every request here has."""
    sent = json.loads(translated.body)
    assert sent.pop("model") == "gpt"
    if sent.get("messages") == ASK:
        del sent["messages"]
    if sent.get("max_completion_tokens") == 100:
        del sent["max_completion_tokens"]
    assert isinstance(sent, dict)
    return sent


SENT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing more": ({}, {}),
    "sampling": ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
    "one stop": ({"stop_sequences": ["a"]}, {"stop": ["a"]}),
    "four stops": ({"stop_sequences": ["a", "b", "c", "d"]}, {"stop": ["a", "b", "c", "d"]}),
    "no stops": ({"stop_sequences": []}, {}),
    "no stream": ({"stream": False}, {}),
    "stream": ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
    "tool": (
        {"tools": [TOOL]},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "add",
                        "description": "Adds.",
                        "parameters": {"type": "object", "properties": {}},
                    },
                }
            ]
        },
    ),
    "strict tool": (
        {"tools": [{"type": "custom", "name": "f", "input_schema": {}, "strict": True, "later": 1}]},
        {
            "tools": [
                {"type": "function", "function": {"name": "f", "parameters": {}, "strict": True, "later": 1}},
            ]
        },
    ),
    "tool without schema": (
        {"tools": [{"name": "f"}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
    ),
    "no tools": ({"tools": []}, {}),
    "choice auto": ({"tool_choice": {"type": "auto"}}, {"tool_choice": "auto"}),
    "choice any": ({"tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
    "choice none": ({"tool_choice": {"type": "none"}}, {"tool_choice": "none"}),
    "choice tool": (
        {"tool_choice": {"type": "tool", "name": "add"}},
        {"tool_choice": {"type": "function", "function": {"name": "add"}}},
    ),
    "one call at a time": (
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        {"tool_choice": "auto", "parallel_tool_calls": False},
    ),
    "many calls at a time": (
        {"tool_choice": {"type": "any", "disable_parallel_tool_use": False}},
        {"tool_choice": "required"},
    ),
    "effort": ({"output_config": {"effort": "medium"}}, {"reasoning_effort": "medium"}),
    "effort max": ({"output_config": {"effort": "max"}}, {"reasoning_effort": "xhigh"}),
    "effort of later": ({"output_config": {"effort": "extreme"}}, {"reasoning_effort": "extreme"}),
    "effort beats budget": (
        {"thinking": {"type": "enabled", "budget_tokens": 9000}, "output_config": {"effort": "low"}},
        {"reasoning_effort": "low"},
    ),
    "budget low": ({"thinking": {"type": "enabled", "budget_tokens": 2047}}, {"reasoning_effort": "low"}),
    "budget medium": ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"reasoning_effort": "medium"}),
    "budget medium still": ({"thinking": {"type": "enabled", "budget_tokens": 8191}}, {"reasoning_effort": "medium"}),
    "budget high": ({"thinking": {"type": "enabled", "budget_tokens": 8192}}, {"reasoning_effort": "high"}),
    "adaptive": ({"thinking": {"type": "adaptive"}}, {}),
    "adaptive with effort": (
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        {"reasoning_effort": "high"},
    ),
    "no budget": ({"thinking": {"type": "enabled"}}, {}),
    "format": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "output", "schema": {"type": "object"}, "strict": True},
            }
        },
    ),
    "older format": (
        {"output_format": {"type": "json_schema", "schema": {}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "output", "schema": {}, "strict": True},
            }
        },
    ),
    "user": ({"metadata": {"user_id": "u1"}}, {"user": "u1"}),
    "no user": ({"metadata": {"user_id": None}}, {}),
    "tier auto": ({"service_tier": "auto"}, {"service_tier": "auto"}),
    "tier standard": ({"service_tier": "standard_only"}, {"service_tier": "default"}),
    "empty list of servers": ({"mcp_servers": []}, {}),
    "unknown": ({"later": {"a": [1]}, "seed": 7}, {"later": {"a": [1]}, "seed": 7}),
    "nulls": (
        dict.fromkeys(
            (
                "stream", "temperature", "top_k", "stop_sequences", "tools", "tool_choice", "thinking", "metadata",
                "output_config", "service_tier", "system", "mcp_servers", "container", "cache_control",
            )
        ),
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SENT)
def test_what_is_translated(name: str) -> None:
    """Each member that has a counterpart arrives as it, each unknown one as it is, and nothing is said to be lost."""
    given_members, sent = SENT[name]
    translated = translate(**given_members)
    assert members_of(translated) == sent
    assert translated.dropped == ()


DROPPED: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "top_k": ({"top_k": 5}, {}, ("top_k",)),
    "no counterpart": (
        {
            "cache_control": {"type": "ephemeral"},
            "container": "c",
            "context_management": {"edits": []},
            "inference_geo": "us",
            "speed": "fast",
            "diagnostics": {"previous_message_id": "m"},
            "billing_policy": {"type": "billing_policy"},
            "fallbacks": "default",
            "fallback_credit_token": "t",
        },
        {},
        (
            "billing_policy",
            "cache_control",
            "container",
            "context_management",
            "diagnostics",
            "fallback_credit_token",
            "fallbacks",
            "inference_geo",
            "speed",
        ),
    ),
    "another count of answers": ({"n": 3, "stream_options": {}}, {}, ("n", "stream_options")),
    "stream_options of the client": (
        {"stream": True, "stream_options": {"include_usage": False}},
        {"stream": True, "stream_options": {"include_usage": True}},
        ("stream_options",),
    ),
    "no thinking": ({"thinking": {"type": "disabled"}}, {}, ("thinking",)),
    "display": ({"thinking": {"type": "adaptive", "display": "omitted"}}, {}, ("thinking.display",)),
    "task budget": ({"output_config": {"task_budget": 1, "x": None}}, {}, ("output_config.task_budget",)),
    "metadata": ({"metadata": {"user_id": "u", "team": "t"}}, {"user": "u"}, ("metadata.team",)),
    "unknown tier": ({"service_tier": "priority"}, {}, ("service_tier",)),
    "tool": (
        {"tools": [{**TOOL, "cache_control": {}, "defer_loading": True, "input_examples": [], "allowed_callers": []}]},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "add",
                        "description": "Adds.",
                        "parameters": {"type": "object", "properties": {}},
                    },
                }
            ]
        },
        ("tools.allowed_callers", "tools.cache_control", "tools.defer_loading", "tools.input_examples"),
    ),
    "inside messages": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {}}]}]},
        {},
        ("messages.content.cache_control",),
    ),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_is_left_out(name: str) -> None:
    """What has no counterpart is not sent, and is named."""
    given_members, sent, dropped = DROPPED[name]
    translated = translate(**given_members)
    assert members_of(translated) == sent
    assert translated.dropped == dropped


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"stop_sequences": ["a", "b", "c", "d", "e"]}, "stop_sequences"),
        ({"mcp_servers": [{"url": "https://x"}]}, "mcp_servers"),
        ({"compaction": {"type": "compaction"}}, "compaction"),
        ({"thread": {"type": "create"}}, "thread"),
        ({"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]}, "tools[1]"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0]"),
        ({"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}, "tools[0]"),
        ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format.type"),
        ({"output_format": {}}, "output_format.type"),
    ],
)
def test_what_is_refused(members: dict[str, Any], param: str) -> None:
    """What the other protocol cannot express is refused, and the refusal names the member."""
    with pytest.raises(RequestError) as refused:
        translate(**members)
    assert (refused.value.kind, refused.value.param) == (Kind.UNSUPPORTED_PARAMETER, param)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": {}}, "messages"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 5.5}, "max_tokens"),
        ({"stream": 1}, "stream"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": True}, "top_p"),
        ({"top_k": []}, "top_k"),
        ({"stop_sequences": "a"}, "stop_sequences"),
        ({"stop_sequences": ["a", 1]}, "stop_sequences"),
        ({"tools": {}}, "tools"),
        ({"tools": ["add"]}, "tools[0]"),
        ({"tools": [{"name": 1}]}, "tools[0].name"),
        ({"tools": [{"name": "f", "input_schema": "{}"}]}, "tools[0].input_schema"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": ["auto"]}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        (
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}},
            "tool_choice.disable_parallel_tool_use",
        ),
        ({"thinking": "yes"}, "thinking"),
        ({"thinking": {"type": "enabled", "budget_tokens": "1024"}}, "thinking.budget_tokens"),
        ({"output_config": []}, "output_config"),
        ({"output_config": {"effort": 3}}, "output_config.effort"),
        ({"output_config": {"format": "json"}}, "output_config.format"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"metadata": "u1"}, "metadata"),
        ({"metadata": {"user_id": 1}}, "metadata.user_id"),
    ],
)
def test_wrong_types(members: dict[str, Any], param: str) -> None:
    """A member of a wrong type is refused, and the refusal names it."""
    with pytest.raises(RequestError) as refused:
        translate(**members)
    assert (refused.value.kind, refused.value.param) == (Kind.INVALID_TYPE, param)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.INVALID_JSON),
        (b"[]", Kind.INVALID_JSON),
        (b"\xff{}", Kind.INVALID_JSON),
        (b'{"messages":NaN}', Kind.INVALID_JSON),
        (b'{"later":' + b"[" * 100_000 + b"]" * 100_000 + b',"messages":[]}', Kind.INVALID_JSON),
        (b"{}", Kind.MISSING_PARAMETER),
        (b'{"messages":null}', Kind.MISSING_PARAMETER),
    ],
)
def test_bodies_that_are_no_request(body: bytes, kind: Kind) -> None:
    """A body that cannot be read, or holds no messages, is refused as what it is."""
    with pytest.raises(RequestError) as refused:
        to_chat(body, "gpt", Options())
    assert refused.value.kind is kind


def test_every_depth_is_translated_or_refused() -> None:
    """However deep a body is nested, it is translated or refused: there is no depth between that fails otherwise."""
    outcomes = set()
    for depth in range(900, 1100):
        deep = b"[" * depth + b"]" * depth
        call = b'{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"a":' + deep + b"}}]}"
        for body in (b'{"later":' + deep + b',"messages":[]}', b'{"messages":[' + call + b"]}"):
            try:
                to_chat(body, "gpt", Options())
                outcomes.add("sent")
            except RequestError as refused:
                outcomes.add(refused.kind)
    assert outcomes <= {"sent", Kind.INVALID_JSON}


def test_options_of_the_model() -> None:
    """A model's settings name the limit, admit `top_k`, and keep sampling from models that refuse it."""
    assert members_of(translate(Options(max_tokens_field="max_tokens"))) == {"max_tokens": 100}
    assert members_of(translate(Options(takes_top_k=True), top_k=5)) == {"top_k": 5}
    strict = translate(Options(no_sampling=True, takes_top_k=True), temperature=1, top_p=1, top_k=1)
    assert members_of(strict) == {}
    assert strict.dropped == ("temperature", "top_k", "top_p")


def test_the_limit_may_be_missing() -> None:
    """OpenAI needs no limit, so none is made up."""
    sent = to_chat(b'{"messages":[]}', "gpt", Options())
    assert json.loads(sent.body) == {"model": "gpt", "messages": []}


def test_what_the_relay_learns() -> None:
    """The result says whether the answer streams, and that a streaming client is told its usage."""
    assert [(one.stream, one.wants_usage) for one in (translate(), translate(stream=True))] == [
        (False, False),
        (True, True),
    ]


def test_numbers_keep_their_digits() -> None:
    """What is copied has the same digits, in schemas, in arguments and in unknown members."""
    digits = "[1.10,1e2,0.1000000000000000055,12345678901234567890123,-0,1E400]"
    call = f'{{"type":"tool_use","id":"a","name":"f","input":{{"v": {digits}}}}}'
    turns = f'"messages":[{{"role":"assistant","content":[{call}]}}]'
    tools = f'"tools":[{{"name":"f","input_schema":{{"enum": {digits}}}}}]'
    body = f'{{{turns},{tools},"later": {digits},"temperature":0.10}}'
    sent = to_chat(body.encode(), "gpt", Options()).body.decode()
    assert sent.count(digits) == 3
    assert '"temperature":0.10' in sent


scalars = st.none() | st.booleans() | st.integers(-10, 10) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    scalars | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)

WORDS = (
    "text", "image", "document", "tool_use", "tool_result", "thinking", "search_result", "base64", "url", "content",
    "user", "assistant", "system", "enabled", "tool", "any", "json_schema",
)  # fmt: skip
NAMES = (
    "type", "role", "content", "text", "source", "data", "media_type", "url", "id", "name", "input", "tool_use_id",
    "thinking", "signature", "title", "budget_tokens", "effort", "format", "schema", "input_schema", "user_id",
)  # fmt: skip
nearly_valid = st.recursive(
    st.sampled_from(WORDS) | json_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
TOP = (
    "messages", "system", "max_tokens", "stream", "tools", "tool_choice", "thinking", "output_config", "metadata",
    "stop_sequences", "temperature", "top_k", "service_tier", "mcp_servers", "container", "later",
)  # fmt: skip


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(TOP), nearly_valid, max_size=5), st.lists(nearly_valid, max_size=3))
def test_nothing_but_a_refusal_is_raised(members: dict[str, Any], messages: list[Any]) -> None:
    """Whatever JSON a client sends, it is translated into JSON or refused."""
    try:
        translated = to_chat(json.dumps({"messages": messages, **members}).encode(), "gpt", Options())
    except RequestError:
        return
    assert json.loads(translated.body)["model"] == "gpt"
    assert all(name.isascii() for name in translated.dropped)


@given(st.binary(max_size=60))
def test_any_bytes(body: bytes) -> None:
    """Whatever bytes a client sends, they are translated or refused."""
    with contextlib.suppress(RequestError):
        to_chat(body, "gpt", Options())
