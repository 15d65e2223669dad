"""What PROTOCOL 10 says is kept is the same after both translations, there and back."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from router.protocol.translate.answer_to_chat import answer_to_chat
from router.protocol.translate.answer_to_messages import answer_to_messages
from router.protocol.translate.common import Options
from router.protocol.translate.request_to_chat import to_chat
from router.protocol.translate.request_to_messages import to_messages
from router.protocol.translate.stream_to_chat import StreamToChat
from router.protocol.translate.stream_to_messages import StreamToMessages

Json = dict[str, Any]
OPTIONS = Options()

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda text: text.strip() != ""
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
inputs = st.dictionaries(words, json_values, max_size=2)
names = st.sampled_from(["add", "look_up"])
media = st.sampled_from([("image/png", "aGk="), ("image/webp", "AAAA")])
addresses = st.sampled_from(["https://x.example/a.png", "http://x.example/b"])


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# Requests of chat clients.

text_parts = st.builds(lambda text: {"type": "text", "text": text}, words)
image_parts = st.one_of(
    media.map(lambda both: {"type": "image_url", "image_url": {"url": f"data:{both[0]};base64,{both[1]}"}}),
    addresses.map(lambda url: {"type": "image_url", "image_url": {"url": url}}),
)
file_parts = st.builds(
    lambda name: {"type": "file", "file": {"filename": name, "file_data": "data:application/pdf;base64,JVBE"}}, words
)
user_contents = words | st.lists(text_parts | image_parts | file_parts, min_size=2, max_size=4)
chat_choices = st.sampled_from(["auto", "required", "none"]) | names.map(
    lambda name: {"type": "function", "function": {"name": name}}
)


def chat_call(identity: str, name: str, arguments: Json) -> Json:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": dumped(arguments)}}


@st.composite
def chat_conversations(draw: st.DrawFn) -> list[Json]:
    messages: list[Json] = [{"role": "system", "content": draw(words)}] if draw(st.booleans()) else []
    messages.append({"role": "user", "content": draw(user_contents)})
    for turn in range(draw(st.integers(0, 2))):
        ids = [f"call_{turn}_{number}" for number in range(draw(st.integers(0, 2)))]
        answer: Json = {"role": "assistant", "content": draw(words | st.none() if ids else words)}
        if ids:
            answer["tool_calls"] = [chat_call(identity, draw(names), draw(inputs)) for identity in ids]
        messages.append(answer)
        messages += [{"role": "tool", "tool_call_id": identity, "content": draw(words)} for identity in ids]
        if not ids or draw(st.booleans()):
            messages.append({"role": "user", "content": draw(user_contents)})
    return messages


chat_members = st.fixed_dictionaries(
    {"messages": chat_conversations()},
    optional={
        "max_completion_tokens": st.integers(1, 10**6),
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "stop": st.lists(words, min_size=1, max_size=4),
        "stream": st.just(True),
        "user": words,
        "response_format": inputs.map(
            lambda schema: {
                "type": "json_schema",
                "json_schema": {"name": "output", "schema": {"type": "object", **schema}, "strict": True},
            }
        ),
        "later": json_values,
    },
)
chat_tools = st.fixed_dictionaries(
    {
        "tools": st.lists(
            st.builds(
                lambda name, text, schema: {
                    "type": "function",
                    "function": {"name": name, "description": text, "parameters": {"type": "object", **schema}},
                },
                names,
                words,
                inputs,
            ),
            min_size=1,
            max_size=2,
        ),
        "tool_choice": chat_choices,
    },
)


@settings(max_examples=60)
@given(chat_members, chat_tools | st.just({}), st.booleans())
def test_chat_requests(members: Json, tools: Json, one_call: bool) -> None:
    """A chat request that became a messages request becomes the same chat request again."""
    request = {"model": "m", **members, **tools}
    if tools and tools["tool_choice"] != "none" and one_call:
        request["parallel_tool_calls"] = False
    there = to_messages(dumped(request).encode(), "claude", OPTIONS)
    back = to_chat(there.body, "m", OPTIONS)
    assert there.dropped == back.dropped == ()
    request.setdefault("max_completion_tokens", OPTIONS.default_max_tokens)
    if "stream" in request:
        request["stream_options"] = {"include_usage": True}
    if request.get("later", 0) is None:
        assert json.loads(back.body).get("later") is None
        del request["later"]
    assert {name: value for name, value in json.loads(back.body).items() if value is not None} == request


# Requests of messages clients.

text_blocks = st.builds(lambda text: {"type": "text", "text": text}, words)
image_blocks = st.one_of(
    media.map(
        lambda both: {"type": "image", "source": {"type": "base64", "media_type": both[0], "data": both[1]}},
    ),
    addresses.map(lambda url: {"type": "image", "source": {"type": "url", "url": url}}),
)
document_blocks = words.map(
    lambda title: {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
        "title": title,
    }
)
asked = st.lists(text_blocks | image_blocks | document_blocks, min_size=2, max_size=3)
message_choices = st.sampled_from(["auto", "any", "none"]).map(lambda kind: {"type": kind}) | names.map(
    lambda name: {"type": "tool", "name": name}
)


def tool_use(identity: str, name: str, arguments: Json) -> Json:
    return {"type": "tool_use", "id": identity, "name": name, "input": arguments}


@st.composite
def turns(draw: st.DrawFn) -> list[Json]:
    found: list[Json] = [{"role": "user", "content": draw(words | asked)}]
    for turn in range(draw(st.integers(0, 2))):
        ids = [f"toolu_{turn}_{number}" for number in range(draw(st.integers(0, 2)))]
        if not ids:
            found.append({"role": "assistant", "content": draw(words)})
            found.append({"role": "user", "content": draw(words | asked)})
            continue
        said = draw(st.lists(text_blocks, max_size=1))
        found.append({"role": "assistant", "content": said + [tool_use(one, draw(names), draw(inputs)) for one in ids]})
        results = [{"type": "tool_result", "tool_use_id": identity, "content": draw(words)} for identity in ids]
        found.append({"role": "user", "content": results + draw(asked | st.just([]))})
    return found


message_members = st.fixed_dictionaries(
    {"messages": turns(), "max_tokens": st.integers(1, 10**6)},
    optional={
        "system": words,
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "stop_sequences": st.lists(words, min_size=1, max_size=4),
        "stream": st.just(True),
        "metadata": words.map(lambda user: {"user_id": user}),
        "output_config": inputs.map(
            lambda schema: {"format": {"type": "json_schema", "schema": {"type": "object", **schema}}}
        ),
    },
)
message_tools = st.fixed_dictionaries(
    {
        "tools": st.lists(
            st.builds(
                lambda name, text, schema: {
                    "name": name,
                    "description": text,
                    "input_schema": {"type": "object", **schema},
                },
                names,
                words,
                inputs,
            ),
            min_size=1,
            max_size=2,
        ),
        "tool_choice": message_choices,
    }
)


@settings(max_examples=60)
@given(message_members, message_tools | st.just({}), st.booleans())
def test_messages_requests(members: Json, tools: Json, one_call: bool) -> None:
    """A messages request that became a chat request becomes the same messages request again."""
    request = {"model": "m", **members, **tools}
    if tools and tools["tool_choice"] != {"type": "none"} and one_call:
        request["tool_choice"] = {**tools["tool_choice"], "disable_parallel_tool_use": True}
    there = to_chat(dumped(request).encode(), "gpt", OPTIONS)
    back = to_messages(there.body, "m", OPTIONS)
    assert there.dropped == back.dropped == ()
    assert json.loads(back.body) == request


# Answers, whole and in streams.

counts = st.integers(0, 10**6)
finishes = st.sampled_from(["stop", "length", "content_filter"])


@st.composite
def completions(draw: st.DrawFn) -> Json:
    calls = [chat_call(f"call_{number}", draw(names), draw(inputs)) for number in range(draw(st.integers(0, 2)))]
    message: Json = {"role": "assistant", "content": draw(words | st.none()), "refusal": None}
    if draw(st.booleans()):
        message["reasoning_content"] = draw(words)
    if calls:
        message["tool_calls"] = calls
    parts = draw(st.lists(counts, min_size=5, max_size=5))
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": "tool_calls" if calls else draw(finishes),
            }
        ],
        "usage": {
            "prompt_tokens": sum(parts[:3]),
            "completion_tokens": parts[3] + parts[4],
            "total_tokens": sum(parts),
            "prompt_tokens_details": {"cached_tokens": parts[1], "cache_write_tokens": parts[2]},
            "completion_tokens_details": {"reasoning_tokens": parts[4]},
        },
    }


def essence_of_completion(answer: Json) -> Json:
    """What a chat client reads, without what was made up or cut differently on the way."""
    choice = answer["choices"][0]
    message = choice["message"]
    calls = [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"], parse_float=str))
        for call in message.get("tool_calls") or ()
    ]
    return {
        "content": message.get("content") or "",
        "reasoning": message.get("reasoning_content") or "",
        "calls": calls,
        "finish": choice["finish_reason"],
        "usage": answer["usage"],
        "model": answer["model"],
    }


@given(completions())
def test_completions(answer: Json) -> None:
    """A completion that became a message becomes the same completion again, and its id still holds the first one."""
    there = answer_to_messages(dumped(answer).encode())
    assert there is not None
    back = answer_to_chat(there, created=7)
    assert back is not None
    read = json.loads(back)
    assert essence_of_completion(read) == essence_of_completion(answer)
    assert read["id"].endswith(answer["id"])


@st.composite
def messages(draw: st.DrawFn) -> Json:
    thoughts = st.lists(words.map(lambda text: {"type": "thinking", "thinking": text, "signature": ""}), max_size=1)
    calls = [tool_use(f"toolu_{number}", draw(names), draw(inputs)) for number in range(draw(st.integers(0, 2)))]
    reasons = st.sampled_from(["end_turn", "max_tokens", "refusal"])
    usage = {
        "input_tokens": draw(counts),
        "cache_creation_input_tokens": draw(counts),
        "cache_read_input_tokens": draw(counts),
        "output_tokens": 10 + draw(counts),
        "output_tokens_details": {"thinking_tokens": draw(st.integers(1, 10))},
    }
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": draw(thoughts) + draw(st.lists(text_blocks, max_size=1)) + calls,
        "stop_reason": "tool_use" if calls else draw(reasons),
        "stop_sequence": None,
        "usage": usage,
    }


def without_id(message: Json) -> Json:
    return {name: value for name, value in message.items() if name != "id"}


@given(messages())
def test_messages(message: Json) -> None:
    """A message that became a completion becomes the same message again."""
    there = answer_to_chat(dumped(message).encode(), created=7)
    assert there is not None
    back = answer_to_messages(there)
    assert back is not None
    assert without_id(json.loads(back)) == without_id(message)


def chat_stream(answer: Json, cuts: list[int]) -> bytes:
    """The stream that says what a completion says, each text cut in two at one of `cuts`."""
    message, choice = answer["choices"][0]["message"], answer["choices"][0]
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    for name in ("reasoning_content", "content"):
        deltas += [{name: piece} for piece in cut_up(message.get(name) or "", cuts)]
    for index, call in enumerate(message.get("tool_calls") or ()):
        head = {"name": call["function"]["name"], "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": head}]})
        for piece in cut_up(call["function"]["arguments"], cuts):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    frame = {"id": answer["id"], "object": "chat.completion.chunk", "created": 7, "model": answer["model"]}
    chunks: list[Json] = [{**frame, "choices": [{"index": 0, "delta": one, "finish_reason": None}]} for one in deltas]
    chunks.append({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    chunks.append({**frame, "choices": [], "usage": answer["usage"]})
    return b"".join(f"data: {dumped(one)}\n\n".encode() for one in chunks) + b"data: [DONE]\n\n"


def cut_up(text: str, cuts: list[int]) -> list[str]:
    cut = cuts[len(text) % len(cuts)]
    return [piece for piece in (text[:cut], text[cut:]) if piece]


def completion_of(stream: bytes) -> Json:
    """Put a chat stream together again, as a client does."""
    *events, done, rest = stream.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    message: Json = {"content": "", "reasoning_content": "", "tool_calls": []}
    answer: Json = {"choices": [{"message": message, "finish_reason": None}]}
    for event in events:
        chunk = json.loads(event.removeprefix("data: "))
        answer |= {"id": chunk["id"], "model": chunk["model"]}
        answer |= {"usage": chunk["usage"]} if chunk.get("usage") else {}
        for choice in chunk["choices"]:
            delta = choice["delta"]
            for name in ("content", "reasoning_content"):
                message[name] += delta.get(name) or ""
            for piece in delta.get("tool_calls") or ():
                if piece["index"] == len(message["tool_calls"]):
                    message["tool_calls"].append({"id": piece["id"], "function": {**piece["function"]}})
                else:
                    call = message["tool_calls"][piece["index"]]
                    call["function"]["arguments"] += piece["function"]["arguments"]
            answer["choices"][0]["finish_reason"] = choice["finish_reason"] or answer["choices"][0]["finish_reason"]
    return answer


def message_of(stream: bytes) -> Json:
    """Put a messages stream together again, as a client does."""
    message: Json = {}
    pieces: list[str] = []
    events = [json.loads(event.split("\ndata: ")[1]) for event in stream.decode().split("\n\n")[:-1]]
    for event in events:
        if event["type"] == "message_start":
            message = event["message"]
        elif event["type"] == "content_block_start":
            assert event["index"] == len(message["content"])
            message["content"].append(event["content_block"])
            pieces = []
        elif event["type"] == "content_block_delta":
            assert event["index"] == len(message["content"]) - 1
            pieces.append(event["delta"].get("partial_json", ""))
            for name in ("text", "thinking"):
                if name in event["delta"]:
                    message["content"][-1][name] += event["delta"][name]
        elif event["type"] == "content_block_stop" and message["content"][-1]["type"] == "tool_use":
            message["content"][-1]["input"] = json.loads("".join(pieces) or "{}")
        elif event["type"] == "message_delta":
            message |= {**event["delta"], "usage": event["usage"]}
    assert events[-1]["type"] == "message_stop"
    return message


@given(completions(), st.lists(st.integers(0, 8), min_size=3, max_size=3))
def test_chat_streams(answer: Json, cuts: list[int]) -> None:
    """A chat stream that became a messages stream becomes one again that says the same."""
    there = StreamToMessages().feed(chat_stream(answer, cuts))
    back = completion_of(StreamToChat(created=7).feed(there))
    assert essence_of_completion(back) == essence_of_completion(answer)


@given(messages(), st.lists(st.integers(0, 8), min_size=3, max_size=3))
def test_messages_streams(message: Json, cuts: list[int]) -> None:
    """A messages stream that became a chat stream becomes one again that says the same."""
    there = answer_to_chat(dumped(message).encode(), created=7)
    assert there is not None
    stream = StreamToMessages().feed(chat_stream(json.loads(there), cuts))
    back = StreamToMessages().feed(StreamToChat(created=7).feed(stream))
    assert without_id(message_of(stream)) == without_id(message_of(back)) == without_id(message)


@given(completions(), st.lists(st.integers(0, 8), min_size=3, max_size=3))
def test_a_stream_says_what_the_whole_answer_says(answer: Json, cuts: list[int]) -> None:
    """An answer becomes the same message whether it streams or comes whole."""
    whole = answer_to_messages(dumped(answer).encode())
    assert whole is not None
    assert message_of(StreamToMessages().feed(chat_stream(answer, cuts))) == json.loads(whole)
