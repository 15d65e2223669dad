import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import Kind, RequestError
from router.protocol.translate.common import Options, Translated
from router.protocol.translate.request_to_messages import to_messages

MODEL = "claude-opus-4-6"
HI = [{"role": "user", "content": "Hi"}]
OPTIONS = Options()
OLDER = Options(adaptive_thinking=False)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "Of a city.", "parameters": SCHEMA},
}
WEATHER_THERE = {"name": "weather", "description": "Of a city.", "input_schema": SCHEMA}
ADAPTIVE = {"type": "adaptive", "display": "summarized"}


def translate(options: Options = OPTIONS, **members: Any) -> Translated:
    return to_messages(json.dumps({"model": "gpt-5.5", "messages": HI, **members}).encode(), MODEL, options)


def sent(options: Options = OPTIONS, **members: Any) -> dict[str, Any]:
    """Translate members of which nothing is dropped; return what they became, without what is always there."""
    translated = translate(options, **members)
    assert translated.dropped == ()
    return others(translated)


def others(translated: Translated) -> dict[str, Any]:
    body = json.loads(translated.body)
    always: dict[str, Any] = {"model": MODEL, "messages": HI, "max_tokens": 4096}
    return {name: value for name, value in body.items() if name not in always or always[name] != value}


def refused(options: Options = OPTIONS, **members: Any) -> tuple[Kind, str | None]:
    with pytest.raises(RequestError) as refusal:
        translate(options, **members)
    return refusal.value.kind, refusal.value.param


def test_the_least_request() -> None:
    """Model, limit and messages are all that Anthropic needs, in compact JSON."""
    translated = translate()
    assert translated.body == (
        b'{"model":"claude-opus-4-6","max_tokens":4096,"messages":[{"role":"user","content":"Hi"}]}'
    )
    assert (translated.dropped, translated.stream, translated.wants_usage) == ((), False, False)


def test_a_usual_request() -> None:
    """A request of an agent with a system prompt, a picture, tools and a call in its history is rebuilt whole."""
    chat = {
        "model": "gpt-5.5",
        "messages": [
            {"role": "system", "content": "You help."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Where is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/4AA="}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rom"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        ],
        "tools": [WEATHER],
        "max_completion_tokens": 500,
        "temperature": 0.2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    translated = to_messages(json.dumps(chat).encode(), MODEL, OPTIONS)
    assert (translated.dropped, translated.stream, translated.wants_usage) == ((), True, True)
    assert json.loads(translated.body) == {
        "model": MODEL,
        "max_tokens": 500,
        "system": "You help.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Where is this?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "/9j/4AA="}},
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rom"}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}]},
        ],
        "tools": [WEATHER_THERE],
        "temperature": 0.2,
        "stream": True,
    }


def test_numbers_keep_their_digits() -> None:
    """Schemas, arguments and unknown members are copied digit for digit."""
    exact = '{"maximum":123456789012345678901234567890,"multipleOf":0.10,"x":1E+400,"y":-0.0,"z":[1.0]}'
    function = '{"name":"f","parameters":' + exact + "}"
    called = '{"id":"a","type":"function","function":{"name":"f","arguments":' + json.dumps(exact) + "}}"
    body = (
        '{"messages":[{"role":"assistant","tool_calls":[' + called + "]}],"
        '"tools":[{"type":"function","function":' + function + '}],"temperature":0.70,"extra":' + exact + "}"
    )
    out = to_messages(body.encode(), MODEL, OPTIONS).body.decode()
    assert '"input_schema":' + exact in out
    assert '"input":' + exact in out
    assert '"extra":' + exact in out
    assert '"temperature":0.70' in out


@pytest.mark.parametrize(
    ("members", "limit"),
    [
        ({}, 4096),
        ({"max_tokens": None}, 4096),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 8}, 8),
        ({"max_tokens": 7, "max_completion_tokens": 8}, 8),
        ({"max_tokens": 7, "max_completion_tokens": None}, 7),
        ({"max_tokens": 0}, 0),
    ],
)
def test_the_limit(members: Any, limit: int) -> None:
    """The newer name wins, then the older; without either the model's own default is sent, as one is required."""
    assert json.loads(translate(**members).body)["max_tokens"] == limit
    default = json.loads(translate(Options(default_max_tokens=99), **members).body)["max_tokens"]
    assert default == (99 if limit == 4096 else limit)


def test_sampling() -> None:
    """Sampling parameters pass, `top_k` too, the temperature up to 1; a model that rejects them gets none."""
    sampling: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "top_k": 40}
    assert sent(**sampling) == sampling
    assert sent(temperature=1.7) == {"temperature": 1}
    assert sent(temperature=0, top_p=None) == {"temperature": 0}
    translated = translate(Options(no_sampling=True), **sampling)
    assert (others(translated), translated.dropped) == ({}, ("temperature", "top_k", "top_p"))


def test_stops() -> None:
    """One stop or several are an array; entries of white space, which Anthropic refuses, are dropped."""
    assert sent(stop="END") == {"stop_sequences": ["END"]}
    assert sent(stop=["a", "b"]) == {"stop_sequences": ["a", "b"]}
    assert sent(stop=[]) == sent(stop=None) == {}
    translated = translate(stop=["a", "\n", ""])
    assert (others(translated), translated.dropped) == ({"stop_sequences": ["a"]}, ("stop",))
    translated = translate(stop="\n\n")
    assert (others(translated), translated.dropped) == ({}, ("stop",))


@pytest.mark.parametrize(
    ("members", "stream", "wants_usage"),
    [
        ({"stream": True}, True, False),
        ({"stream": True, "stream_options": None}, True, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True, True),
        ({"stream": True, "stream_options": {"include_usage": False, "include_obfuscation": False}}, True, False),
        ({"stream": False, "stream_options": {"include_usage": True}}, False, False),
        ({"stream": None}, False, False),
    ],
)
def test_streams(members: Any, stream: bool, wants_usage: bool) -> None:
    """Whether usage is wanted is remembered, as Anthropic is only told to stream."""
    translated = translate(**members)
    assert (translated.stream, translated.wants_usage, translated.dropped) == (stream, wants_usage, ())
    assert others(translated) == ({"stream": True} if stream else {})


def test_tools() -> None:
    """A function's parameters are its schema; what is null is left out, what nobody knows passes."""
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}, "cache_control": {"type": "x"}}
    assert sent(tools=[WEATHER, strict]) == {
        "tools": [WEATHER_THERE, {**WEATHER_THERE, "strict": True, "cache_control": {"type": "x"}}]
    }
    absent: list[dict[str, Any]] = [{}, {"parameters": None}, {"parameters": {}}, {"strict": None}]
    for none in absent:
        assert sent(tools=[{"type": "function", "function": {"name": "now", **none}}]) == {
            "tools": [{"name": "now", "input_schema": {"type": "object", "properties": {}}}]
        }
    server = {"type": "web_search_20250305", "name": "web_search"}
    assert sent(tools=[server]) == {"tools": [server]}
    assert sent(tools=[]) == sent(tools=None) == {}


@pytest.mark.parametrize(
    ("choice", "there"),
    [
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}),
    ],
)
def test_tool_choice(choice: Any, there: dict[str, Any]) -> None:
    """Every choice has its counterpart, and calls one at a time can be added to each that allows calls."""
    tools: dict[str, Any] = {"tools": [WEATHER_THERE]}
    assert sent(tools=[WEATHER], tool_choice=choice) == {**tools, "tool_choice": there}
    assert sent(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=True) == {**tools, "tool_choice": there}
    single: dict[str, Any] = {} if there["type"] == "none" else {"disable_parallel_tool_use": True}
    assert sent(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False) == {
        **tools,
        "tool_choice": {**there, **single},
    }


def test_parallel_calls_without_a_choice() -> None:
    """Calls one at a time are a choice of its own; without tools there is nothing to choose."""
    single = {"type": "auto", "disable_parallel_tool_use": True}
    assert sent(tools=[WEATHER], parallel_tool_calls=False)["tool_choice"] == single
    assert sent(parallel_tool_calls=False) == sent(tool_choice="none") == sent(tool_choice="auto") == {}
    assert sent(tool_choice="required") == {"tool_choice": {"type": "any"}}


def test_legacy_functions() -> None:
    """Functions and their choice are tools and theirs."""
    assert sent(functions=[WEATHER["function"]], function_call={"name": "weather"}) == {
        "tools": [WEATHER_THERE],
        "tool_choice": {"type": "tool", "name": "weather"},
    }
    assert sent(functions=[WEATHER["function"]], function_call="none")["tool_choice"] == {"type": "none"}


def test_response_format() -> None:
    """A schema is the output's format; a JSON object without one cannot be asked for, plain text need not be."""
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
    assert sent(response_format=schema) == {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
    assert sent(response_format={"type": "text"}) == sent(response_format=None) == {}
    translated = translate(response_format={"type": "json_object"})
    assert (others(translated), translated.dropped) == ({}, ("response_format",))


@pytest.mark.parametrize(
    ("effort", "there"),
    [("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "xhigh")],
)
def test_effort_of_adaptive_models(effort: str, there: str) -> None:
    """An adaptive model thinks as it likes at an effort; a forced choice wins over thinking, and the effort stays."""
    assert sent(reasoning_effort=effort) == {"thinking": ADAPTIVE, "output_config": {"effort": there}}
    forced = sent(reasoning_effort=effort, tools=[WEATHER], tool_choice="required")
    assert forced["output_config"] == {"effort": there}
    assert "thinking" not in forced


def test_effort_and_format_stand_together() -> None:
    """Effort, format and what the client knows of Anthropic's own configuration are one object."""
    schema = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    assert sent(reasoning_effort="high", response_format=schema, output_config={"effort": "max", "x": 1}) == {
        "thinking": ADAPTIVE,
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": SCHEMA}, "x": 1},
    }


@pytest.mark.parametrize(
    ("effort", "budget"), [("minimal", 1024), ("low", 1024), ("medium", 2048), ("high", 4096), ("xhigh", 8192)]
)
def test_effort_of_older_models(effort: str, budget: int) -> None:
    """An older model gets a budget; our own limit is raised above it, as it must be."""
    thinking = {"type": "enabled", "budget_tokens": budget}
    limits = {} if budget < 4096 else {"max_tokens": budget + 4096}
    assert sent(OLDER, reasoning_effort=effort) == {"thinking": thinking, **limits}
    assert sent(OLDER, reasoning_effort=effort, max_tokens=9000) == {"thinking": thinking, "max_tokens": 9000}


def test_a_budget_gives_way_to_the_clients_limit() -> None:
    """The client's limit is never raised: the budget shrinks below it, and without room there is no thinking."""
    assert sent(OLDER, reasoning_effort="xhigh", max_tokens=1025) == {
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "max_tokens": 1025,
    }
    translated = translate(OLDER, reasoning_effort="low", max_tokens=1024)
    assert (others(translated), translated.dropped) == ({"max_tokens": 1024}, ("reasoning_effort",))


def test_thinking_that_older_models_cannot_go_on_with() -> None:
    """Neither a forced choice nor the result of a call whose thinking is lost goes with a budget: thinking is off."""
    translated = translate(OLDER, reasoning_effort="low", tools=[WEATHER], tool_choice="required")
    assert "thinking" not in others(translated)
    assert translated.dropped == ("reasoning_effort",)
    called = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    history = [
        *HI,
        {"role": "assistant", "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "a", "content": "x"},
    ]
    assert translate(OLDER, reasoning_effort="low", messages=history).dropped == ("reasoning_effort",)
    assert translate(reasoning_effort="low", messages=history).dropped == ()


def test_no_effort() -> None:
    """An effort of none turns thinking off, unless the model refuses even that."""
    assert sent(reasoning_effort="none") == sent(OLDER, reasoning_effort="none") == {"thinking": {"type": "disabled"}}
    translated = translate(Options(thinking_required=True), reasoning_effort="none")
    assert (others(translated), translated.dropped) == ({}, ("reasoning_effort",))
    assert sent(reasoning_effort=None) == {}


@pytest.mark.parametrize("options", [OPTIONS, OLDER])
def test_thinking_wins_over_sampling(options: Options) -> None:
    """Beside thinking Anthropic refuses a lower temperature: the answer is worth more, and what is lost is named."""
    translated = translate(options, reasoning_effort="low", temperature=0.3, top_p=0.5, top_k=4)
    assert translated.dropped == ("temperature", "top_k", "top_p")
    assert not {"temperature", "top_k", "top_p"} & json.loads(translated.body).keys()
    assert sent(options, reasoning_effort="low", temperature=1, top_p=0.95)["top_p"] == 0.95
    assert sent(options, reasoning_effort="none", temperature=0.3)["temperature"] == 0.3


def test_the_user() -> None:
    """Who asks is metadata, under the newer name if both are given."""
    assert sent(user="u1") == sent(safety_identifier="u1") == {"metadata": {"user_id": "u1"}}
    assert sent(user="u1", safety_identifier="u1") == {"metadata": {"user_id": "u1"}}
    translated = translate(user="u1", safety_identifier="u2")
    assert (others(translated), translated.dropped) == ({"metadata": {"user_id": "u2"}}, ("user",))


@pytest.mark.parametrize(("tier", "there"), [("auto", "auto"), ("default", "standard_only")])
def test_service_tier(tier: str, there: str) -> None:
    """Two tiers have a counterpart, the others are dropped."""
    assert sent(service_tier=tier) == {"service_tier": there}
    translated = translate(service_tier="priority")
    assert (others(translated), translated.dropped) == ({}, ("service_tier",))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 5),
        ("presence_penalty", 0.5),
        ("frequency_penalty", 0.5),
        ("logit_bias", {"50256": -100}),
        ("store", True),
        ("metadata", {"a": "b"}),
        ("prediction", {"type": "content", "content": "x"}),
        ("verbosity", "low"),
        ("prompt_cache_key", "k"),
        ("prompt_cache_retention", "24h"),
        ("top_logprobs", 2),
        ("audio", {"voice": "x", "format": "wav"}),
    ],
)
def test_what_has_no_counterpart(name: str, value: Any) -> None:
    """What Anthropic cannot be told is dropped and named; where it is null there is nothing to name."""
    translated = translate(**{name: value})
    assert (others(translated), translated.dropped) == ({}, (name,))
    null: dict[str, Any] = {name: None}
    assert sent(**null) == {}


@pytest.mark.parametrize(("name", "value"), [("n", 2), ("n", 0), ("logprobs", True), ("modalities", ["text", "audio"])])
def test_what_would_change_the_answer(name: str, value: Any) -> None:
    """What would give the answer another shape is refused; its usual value is not worth a word."""
    assert refused(**{name: value}) == (Kind.UNSUPPORTED_PARAMETER, name)
    assert sent(n=1, logprobs=False, modalities=["text"]) == sent(n=None, logprobs=None, modalities=None) == {}


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.type"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
    ],
)
def test_what_cannot_be_expressed(members: Any, param: str) -> None:
    """Tools, choices, formats and parts without a counterpart are refused by their name."""
    assert refused(**members) == (Kind.UNSUPPORTED_PARAMETER, param)


def test_an_effort_nobody_knows() -> None:
    """An unknown effort is for an adaptive model to judge; no budget can be made of it."""
    assert sent(reasoning_effort="max")["output_config"] == {"effort": "max"}
    assert refused(OLDER, reasoning_effort="extreme") == (Kind.UNSUPPORTED_PARAMETER, "reasoning_effort")


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": {}}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [5]}, "messages[0]"),
        ({"stream": 1}, "stream"),
        ({"stream": "true"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"max_tokens": 5.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens"),
        ({"max_completion_tokens": 10**30}, "max_completion_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": []}, "top_p"),
        ({"top_k": "x"}, "top_k"),
        ({"n": "2"}, "n"),
        ({"logprobs": 5}, "logprobs"),
        ({"modalities": "audio"}, "modalities"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 5]}, "stop"),
        ({"tools": {}}, "tools"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": 5}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
        ({"functions": {}}, "functions"),
        ({"functions": [{}]}, "functions[0].name"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function.name"),
        ({"function_call": 5}, "function_call"),
        ({"function_call": {}}, "function_call.function.name"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"reasoning_effort": 5}, "reasoning_effort"),
        ({"user": 5}, "user"),
        ({"safety_identifier": {}}, "safety_identifier"),
        ({"service_tier": 5}, "service_tier"),
    ],
)
def test_wrong_types(members: Any, param: str) -> None:
    """A member that is not of the type it must be is the client's fault, and is named."""
    assert refused(**members) == (Kind.INVALID_TYPE, param)


def test_bodies_that_cannot_be_read() -> None:
    """A body must be a JSON object, not too deep, and hold messages, of which there may be none."""
    deep = b'{"messages":' + b"[" * 9000 + b"]" * 9000 + b"}"
    for body in (b"", b"[]", b'{"messages":', b'{"messages":[NaN]}', deep):
        with pytest.raises(RequestError) as refusal:
            to_messages(body, MODEL, OPTIONS)
        assert refusal.value.kind is Kind.INVALID_JSON
    for body in (b"{}", b'{"messages":null}'):
        with pytest.raises(RequestError) as refusal:
            to_messages(body, MODEL, OPTIONS)
        assert (refusal.value.kind, refusal.value.param) == (Kind.MISSING_PARAMETER, "messages")
    assert others(translate(messages=[])) == {"messages": []}


def test_unknown_members_pass() -> None:
    """What nobody knows passes, Anthropic's own members among it, for the upstream to judge."""
    unknown: dict[str, Any] = {
        "container": "c",
        "context_management": {"edits": []},
        "mcp_servers": [],
        "inference_geo": "eu",
        "speed": "fast",
        "cache_control": {"type": "ephemeral"},
        "web_search_options": {},
        "min_p": None,
        "thinking": {"type": "adaptive"},
    }
    assert sent(**unknown) == unknown


def test_members_that_meet_their_counterpart() -> None:
    """Where Anthropic's own name stands beside OpenAI's, the latter holds and the former is named."""
    native: dict[str, Any] = {"stop_sequences": ["b"], "thinking": {"type": "disabled"}, "system": "x"}
    translated = translate(
        stop="a", reasoning_effort="high", messages=[{"role": "system", "content": "y"}, *HI], **native
    )
    body = json.loads(translated.body)
    assert (body["stop_sequences"], body["thinking"], body["system"]) == (["a"], ADAPTIVE, "y")
    assert translated.dropped == ("stop_sequences", "system", "thinking")


def test_what_is_dropped_is_named_once() -> None:
    """Names are sorted, each once, dotted where nested."""
    messages = [{"role": "user", "name": "Ann", "content": "Hi"}] * 3
    assert translate(messages=messages, seed=1, logit_bias={}).dropped == ("logit_bias", "messages.name", "seed")


def test_messages_follow_the_models_options() -> None:
    """A later system message stays in place for a model that is marked so."""
    later = [*HI, {"role": "system", "content": "x"}]
    assert others(translate(messages=later)) == {"system": "x"}
    assert json.loads(translate(Options(inline_system=True), messages=later).body)["messages"] == later


# What follows checks the shape of whole conversations.

words = st.text(st.characters(codec="utf-8"), max_size=8)
images = st.sampled_from(["data:image/png;base64,iVBORw0KGgo=", "https://host/x.png"])
text_parts = words.map(lambda said: {"type": "text", "text": said})
image_parts = images.map(lambda url: {"type": "image_url", "image_url": {"url": url, "detail": "auto"}})
users = st.builds(
    lambda content: {"role": "user", "content": content}, words | st.lists(text_parts | image_parts, max_size=3)
)
systems = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["system", "developer"]),
    words | st.lists(text_parts, max_size=2),
)
arguments = st.dictionaries(words, st.integers() | words | st.none(), max_size=2).map(json.dumps) | st.just("")


@st.composite
def assistants(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An assistant's message, and the results of its calls, if it made any."""
    said = draw(words | st.none() | st.lists(text_parts, max_size=2))
    ids = draw(st.lists(st.uuids().map(str) | st.just("f:0"), max_size=3, unique=True))
    message: dict[str, Any] = {"role": "assistant", "content": said}
    if ids:
        message["tool_calls"] = [
            {"id": identity, "type": "function", "function": {"name": "f", "arguments": draw(arguments)}}
            for identity in ids
        ]
    return [
        message,
        *(
            {"role": "tool", "tool_call_id": identity, "content": draw(words | st.lists(text_parts))}
            for identity in ids
        ),
    ]


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(st.lists(assistants() | users.map(lambda one: [one]) | systems.map(lambda one: [one]), max_size=6))
    members: dict[str, st.SearchStrategy[Any]] = {
        "stream": st.booleans(),
        "temperature": st.floats(0, 2),
        "max_tokens": st.integers(1, 10000),
        "stop": words | st.lists(words, max_size=4),
        "tools": st.just([WEATHER]),
        "tool_choice": st.sampled_from(["auto", "none", "required"]),
        "parallel_tool_calls": st.booleans(),
        "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"]),
        "seed": st.integers(),
        "user": words,
    }
    names = draw(st.sets(st.sampled_from(sorted(members))))
    body = {"model": "m", "messages": [message for group in groups for message in group]}
    return body | {name: draw(members[name]) for name in sorted(names)}


def check_shape(body: dict[str, Any], *, inline_system: bool) -> None:
    """Assert what Anthropic requires of a request."""
    assert isinstance(body["max_tokens"], int)
    roles = {"user", "assistant", "system"} if inline_system else {"user", "assistant"}
    waiting: set[str] = set()
    for turn in body["messages"]:
        assert turn["role"] in roles
        assert turn["content"]
        blocks: list[Any] = (
            [{"type": "text", "text": turn["content"]}] if isinstance(turn["content"], str) else turn["content"]
        )
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert [block["type"] for block in blocks[: len(results)]] == ["tool_result"] * len(results)
        assert set(results) <= waiting
        assert not results or turn["role"] == "user"
        waiting -= set(results)
        for block in blocks:
            assert block["type"] != "text" or block["text"].strip()
            for inner in block["content"] if isinstance(block.get("content"), list) else ():
                assert inner["type"] != "text" or inner["text"].strip()
            if block["type"] == "tool_use":
                assert turn["role"] == "assistant"
                assert isinstance(block["input"], dict)
                waiting.add(block["id"])
    assert not waiting
    thinking = body.get("thinking", {})
    assert thinking.get("budget_tokens", 0) < body["max_tokens"]
    assert body.get("temperature", 1) <= 1
    if thinking.get("type") in ("enabled", "adaptive"):
        assert body.get("tool_choice", {}).get("type") not in ("any", "tool")
        assert body.get("temperature", 1) == 1
    assert all(stop.strip() for stop in body.get("stop_sequences", ()))
    assert not {"max_completion_tokens", "stop", "seed", "user", "reasoning_effort"} & body.keys()


@settings(max_examples=150, deadline=None)
@given(requests(), st.booleans(), st.booleans())
def test_valid_requests_become_valid(request: dict[str, Any], inline_system: bool, adaptive: bool) -> None:
    """Any valid chat request becomes what Anthropic takes: results follow their calls, no text is blank."""
    options = Options(inline_system=inline_system, adaptive_thinking=adaptive)
    translated = to_messages(json.dumps(request).encode(), MODEL, options)
    check_shape(json.loads(translated.body), inline_system=inline_system)


NAMES = """
    messages role content type text tool_calls function name arguments id tools tool_choice stop stream n system user
    image_url url file file_data max_tokens temperature response_format json_schema reasoning_effort thinking_blocks
"""
KINDS = """
    user assistant system tool function text image_url file refusal input_audio json_schema auto none low
    data:image/png;base64,x
"""
leaves = st.sampled_from(KINDS.split()) | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
json_values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES.split()) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool", "function"])},
        optional=dict.fromkeys(["content", "tool_calls", "function_call", "thinking_blocks", "name"], json_values)
        | {"tool_call_id": leaves},
    ),
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(NAMES.split()), json_values, max_size=4)
    | st.fixed_dictionaries({"messages": messages}),
    st.sampled_from([OPTIONS, Options(inline_system=True, adaptive_thinking=False, no_sampling=True)]),
)
def test_nothing_else_is_raised(body: Any, options: Options) -> None:
    """Whatever JSON a client sends, it is translated to JSON or refused as the client's fault."""
    try:
        translated = to_messages(json.dumps(body).encode(), MODEL, options)
    except RequestError as refusal:
        assert refusal.status == 400  # noqa: PT017 -- either outcome is right
    else:
        assert isinstance(json.loads(translated.body), dict)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    """Bytes that are no request are refused as the client's fault."""
    with pytest.raises(RequestError):
        to_messages(body, MODEL, OPTIONS)
