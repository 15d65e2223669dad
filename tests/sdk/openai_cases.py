"""Every endpoint that OpenAI's SDKs have a method for, as calls that Python and Node both understand."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from tests.harness import answers
from tests.harness.endpoints import INPUT_TOKENS
from tests.sdk.methods import Call
from tests.sdk.running import DRAINED, MODEL, Case, secret

if TYPE_CHECKING:
    from collections.abc import Mapping

CHAT = {"input": 16, "cache_read": 8, "output": 17, "reasoning": 5}
COMPLETION = {"input": 5, "output": 7}
RESPONSES = {"input": 20, "cache_read": 10, "output": 12, "reasoning": 4}
IMAGES = {"input": 10, "image_in": 40, "output": 272}
TRANSCRIPTION = {"input": 5, "audio_in": 16, "output": 45}
"""What the router records of the usage in `tests.harness.answers`."""

MESSAGES = [{"role": "user", "content": "What is the weather in Zürich?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
CHAT_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
TOOLS = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
SPOKEN = "Grüße!"
SOUND = b"".join(answers.SOUND)


def file(name: str, content_type: str, data: bytes = SOUND) -> dict[str, Any]:
    """A file among the arguments. The bytes hold line ends, and what looks like a boundary."""
    return {"$file": [name, base64.b64encode(data + b"\r\n--not-the-boundary\r\n").decode(), content_type]}


AUDIO = file("speech.mp3", "audio/mpeg")
PICTURE = file("cat.png", "image/png")


def call(
    name: str, method: str, *positional: Any, read: str = "value", key: str = "full", retries: int = 0, **arguments: Any
) -> Call:
    """A call; without arguments the method gets none."""
    made = Call(name=name, method=method, key=secret(key), read=read, positional=[*positional], max_retries=retries)
    if arguments:
        made["arguments"] = arguments
    return made


def case(
    made: Call,
    shows: Mapping[str, object],
    endpoint: str,
    usage: Mapping[str, float] | None = None,
    *,
    free: bool = False,
    spliced: bool = True,
) -> Case:
    """A call, what it shows, and what is recorded of it."""
    return Case(call=made, shows=shows, endpoint=endpoint, usage=usage, free=free, spliced=spliced)


def deltas(key: str, pieces: tuple[str, ...], *, start: int) -> dict[str, object]:
    """What a stream shows: its pieces, one event after the other."""
    return {f"{start + index}.{key}": piece for index, piece in enumerate(pieces)}


def spoken(data: bytes) -> dict[str, object]:
    """What a file shows."""
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def asked(name: str) -> str:
    """The input of a response; its id follows from it."""
    return f"This is {name}."


def stored(name: str) -> str:
    """The id of the response that the call of this name made."""
    return answers.response_id(asked(name))


def create(name: str, *, read: str = "value", **more: Any) -> Call:
    """Make a response."""
    return call(name, "responses.create", read=read, model=MODEL, input=asked(name), **more)


_CHAT: dict[str, Any] = {"model": MODEL, "messages": MESSAGES}
_STREAM: dict[str, Any] = {"read": "stream", "stream": True}
_TEXT_AT = "choices.0.message.content"
_DELTA_AT = "choices.0.delta.content"
_TOOL_AT = "choices.0.message.tool_calls.0.function"
_TOOL_DELTA_AT = "choices.0.delta.tool_calls.0.function.arguments"

CHATS = [
    case(call("chat", "chat.completions.create", **_CHAT), {_TEXT_AT: answers.TEXT}, "chat", CHAT),
    case(
        call("chat-tools", "chat.completions.create", **_CHAT, tools=CHAT_TOOLS),
        {_TOOL_AT: answers.TOOL, "choices.0.finish_reason": "tool_calls"},
        "chat",
        CHAT,
    ),
    case(
        call("chat-stream", "chat.completions.create", **_STREAM, **_CHAT),
        deltas(_DELTA_AT, answers.PIECES, start=1) | {"5.choices.0.finish_reason": "stop"},
        "chat",
        CHAT,
        spliced=False,
    ),
    case(
        call(
            "chat-stream-usage", "chat.completions.create", **_STREAM, **_CHAT, stream_options={"include_usage": True}
        ),
        deltas(_DELTA_AT, answers.PIECES, start=1) | {"6.choices": [], "6.usage.total_tokens": 41},
        "chat",
        CHAT,
    ),
    case(
        call("chat-stream-tools", "chat.completions.create", **_STREAM, **_CHAT, tools=CHAT_TOOLS),
        deltas(_TOOL_DELTA_AT, answers.ARGUMENTS, start=1),
        "chat",
        CHAT,
        spliced=False,
    ),
    case(
        call("chat-accumulated", "chat.completions.stream", read="get_final_completion", **_CHAT),
        {_TEXT_AT: answers.TEXT, "choices.0.finish_reason": "stop"},
        "chat",
        CHAT,
        spliced=False,
    ),
    case(
        call("completion", "completions.create", model=MODEL, prompt="Say hello."),
        {"choices.0.text": answers.TEXT, "usage.total_tokens": 12},
        "completions",
        COMPLETION,
    ),
    case(
        call("completion-stream", "completions.create", **_STREAM, model=MODEL, prompt="Say hello."),
        deltas("choices.0.text", answers.PIECES, start=0) | {"4.choices.0.finish_reason": "stop"},
        "completions",
        COMPLETION,
        spliced=False,
    ),
]

_OUTPUT_AT = "output.0.content.0.text"

RESPONSES_MADE = [
    case(create("response"), {_OUTPUT_AT: answers.TEXT, "id": stored("response")}, "responses", RESPONSES),
    case(
        create("response-tools", tools=TOOLS), {"output.0.arguments": answers.TOOL["arguments"]}, "responses", RESPONSES
    ),
    case(
        create("response-stream", **_STREAM),
        deltas("delta", answers.PIECES, start=4) | {"11.response.usage.total_tokens": 42},
        "responses",
        RESPONSES,
    ),
    case(
        create("response-stream-tools", **_STREAM, tools=TOOLS),
        deltas("delta", answers.ARGUMENTS, start=3),
        "responses",
        RESPONSES,
    ),
    case(
        call(
            "response-accumulated",
            "responses.stream",
            read="get_final_response",
            model=MODEL,
            input=asked("response-accumulated"),
        ),
        {_OUTPUT_AT: answers.TEXT, "status": "completed"},
        "responses",
        RESPONSES,
    ),
    case(
        call("response-tokens", "responses.input_tokens.count", model=MODEL, input="How long is this?"),
        {"input_tokens": INPUT_TOKENS},
        "responses",
        free=True,
    ),
    case(
        call("response-compact", "responses.compact", model=MODEL, input="Make this shorter."),
        {"object": "response.compaction"},
        "responses",
        RESPONSES,
    ),
]

TURNS = ("response-second", "response-third", "response-fourth")
"""Each builds upon the one before, the first of them upon `response`."""

RESPONSES_STORED = [
    *(
        case(
            create(name, previous_response_id=stored(before)),
            {_OUTPUT_AT: answers.TEXT, "previous_response_id": stored(before)},
            "responses",
            RESPONSES,
        )
        for before, name in zip(("response", *TURNS), TURNS, strict=False)
    ),
    case(
        create("response-background", background=True),
        {"status": "queued", "output": [], "usage": None},
        "responses",
        free=True,
    ),
    *(
        case(call(name, "responses.retrieve", stored(of)), {"status": status}, "responses", free=True)
        for name, of, status in (
            ("retrieve", "response", "completed"),
            ("retrieve-streamed", "response-stream", "completed"),
            ("retrieve-turn", "response-fourth", "completed"),
        )
    ),
    case(
        call("retrieve-stream", "responses.retrieve", stored("response"), **_STREAM, starting_after=3),
        deltas("delta", answers.PIECES, start=0),
        "responses",
        free=True,
    ),
    case(
        call("retrieve-begun", "responses.retrieve", stored("response-background")),
        {"status": "in_progress"},
        "responses",
        free=True,
    ),
    case(
        call("retrieve-done", "responses.retrieve", stored("response-background")),
        {"status": "completed", "usage.total_tokens": 42},
        "responses",
        RESPONSES,
    ),
    case(
        call("retrieve-again", "responses.retrieve", stored("response-background")),
        {"status": "completed", "usage.total_tokens": 42},
        "responses",
        free=True,
    ),
    case(
        call("input-items", "responses.input_items.list", stored("response")),
        {"data.0.content.0.text": asked("response")},
        "responses",
        free=True,
    ),
    case(
        call("cancel", "responses.cancel", stored("response-background")),
        {"status": "cancelled"},
        "responses",
        free=True,
    ),
    case(call("delete", "responses.delete", stored("response-second")), {}, "responses", free=True),
]

_VECTOR = list(answers.VECTOR)

VALUES = [
    case(
        call("embedding", "embeddings.create", model=MODEL, input=["one", "two"]),
        {"data.0.embedding": _VECTOR, "data.1.embedding": _VECTOR, "usage.total_tokens": 6},
        "embeddings",
        {"input": 6},
    ),
    case(
        call("embedding-floats", "embeddings.create", model=MODEL, input="one", encoding_format="float"),
        {"data.0.embedding": _VECTOR},
        "embeddings",
        {"input": 6},
    ),
    case(
        call("moderation", "moderations.create", model=MODEL, input="I will hit you."),
        {"results.0.flagged": True, "results.0.categories.violence": True},
        "moderations",
    ),
    case(
        call("moderation-default", "moderations.create", input="I will hit you."),
        {"results.0.flagged": True},
        "moderations",
        spliced=False,
    ),
    case(
        call("rerank", "post", "/rerank", body={"model": MODEL, "query": "cats", "documents": ["A cat.", "A dog."]}),
        {"results.1.document.text": "A dog.", "usage.total_tokens": 32},
        "rerank",
        {"input": 32},
    ),
    case(
        call(
            "decision",
            "decisions.create",
            model=MODEL,
            input="Thank you!",
            questions=[{"type": "predicate", "name": "polite", "question": "Is this polite?"}],
        ),
        {"answers.0.probability": 0.75},
        "decisions",
        RESPONSES,
    ),
]

IMAGES_MADE = [
    case(
        call("image", "images.generate", model=MODEL, prompt="A cat.", n=2),
        {"data.1.b64_json": answers.PICTURE, "usage.total_tokens": 322},
        "images",
        IMAGES,
    ),
    case(
        call("image-default", "images.generate", prompt="A cat."),
        {"data.0.b64_json": answers.PICTURE},
        "images",
        IMAGES,
        spliced=False,
    ),
    case(
        call("image-stream", "images.generate", **_STREAM, model=MODEL, prompt="A cat.", partial_images=2),
        {"0.partial_image_index": 0, "1.b64_json": answers.PICTURE, "2.usage.output_tokens": 272},
        "images",
        IMAGES,
    ),
    case(
        call("image-edit", "images.edit", model=MODEL, prompt="A hat.", image=[PICTURE, PICTURE], mask=PICTURE),
        {"data.0.b64_json": answers.PICTURE},
        "image_edits",
        IMAGES,
    ),
    case(
        call("image-edit-stream", "images.edit", **_STREAM, model=MODEL, prompt="A hat.", image=PICTURE),
        {"0.type": "image_edit.partial_image", "2.usage.total_tokens": 322},
        "image_edits",
        IMAGES,
    ),
    case(
        call("image-variation", "images.create_variation", model=MODEL, image=PICTURE, n=2),
        {"data.1.b64_json": answers.PICTURE},
        "image_variations",
        {"images": 2},
    ),
]

_SPEECH: dict[str, Any] = {"model": MODEL, "voice": "alloy", "input": SPOKEN}
_HEARD: dict[str, Any] = {"model": MODEL, "file": AUDIO}

SOUNDS = [
    case(
        call("speech", "audio.speech.create", read="bytes", **_SPEECH),
        spoken(SOUND),
        "speech",
        {"characters": len(SPOKEN)},
    ),
    case(
        call("speech-pieces", "audio.speech.create", read="pieces", **_SPEECH),
        spoken(SOUND),
        "speech",
        {"characters": len(SPOKEN)},
    ),
    case(
        call("speech-events", "audio.speech.create", read="bytes", **_SPEECH, stream_format="sse"),
        spoken(b"".join(answers.speech_events())),
        "speech",
        {"input": 14, "output": 101},
    ),
    case(
        call("transcription", "audio.transcriptions.create", **_HEARD),
        {"text": answers.TEXT, "usage.total_tokens": 66},
        "transcriptions",
        TRANSCRIPTION,
    ),
    case(
        call("transcription-verbose", "audio.transcriptions.create", **_HEARD, response_format="verbose_json"),
        {"segments.0.text": answers.TEXT, "duration": 8.5},
        "transcriptions",
        {"seconds": 9},
    ),
    case(
        call("transcription-text", "audio.transcriptions.create", **_HEARD, response_format="text"),
        {"": answers.TEXT + "\n"},
        "transcriptions",
    ),
    case(
        call("transcription-srt", "audio.transcriptions.create", **_HEARD, response_format="srt"),
        {"": answers.SUBTITLES},
        "transcriptions",
    ),
    case(
        call("transcription-stream", "audio.transcriptions.create", **_STREAM, **_HEARD),
        deltas("delta", answers.PIECES, start=0) | {"4.text": answers.TEXT, "4.usage.total_tokens": 66},
        "transcriptions",
        TRANSCRIPTION,
    ),
    case(call("translation", "audio.translations.create", **_HEARD), {"text": answers.TEXT}, "translations"),
    case(
        call("translation-text", "audio.translations.create", **_HEARD, response_format="text"),
        {"": answers.TEXT + "\n"},
        "translations",
    ),
]

CASES = [*CHATS, *RESPONSES_MADE, *RESPONSES_STORED, *VALUES, *IMAGES_MADE, *SOUNDS]
"""In the order in which they are called: some build upon others."""

MODELS = [
    call("models", "models.list"),
    call("models-narrow", "models.list", key="narrow"),
    call("model", "models.retrieve", MODEL),
    call("model-unknown", "models.retrieve", "nobody/has:it"),
]

PLACES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "embedding": ("embeddings.create", {"input": "one"}),
    "response": ("responses.create", {"input": "one"}),
    "speech": ("audio.speech.create", {"read": "bytes", "voice": "alloy", "input": SPOKEN}),
    "transcription": ("audio.transcriptions.create", {"file": AUDIO}),
    "image-stream": ("images.generate", {**_STREAM, "prompt": "A cat."}),
}
"""Where refusals are tried: a JSON body and a form, and answers that are JSON, a file and a stream."""

REFUSALS: Mapping[str, tuple[str, str, str, int, str]] = {
    "unauthorized": ("nobody", MODEL, "AuthenticationError", 401, "invalid_api_key"),
    "forbidden": ("narrow", MODEL, "PermissionDeniedError", 403, "model_not_allowed"),
    "unknown": ("full", "nobody/has:it", "NotFoundError", 404, "model_not_found"),
    "limited": ("limited", MODEL, "RateLimitError", 429, "requests_per_minute"),
    "busy": ("full", "busy", "RateLimitError", 429, "upstream_rate_limited"),
    "drained": ("full", DRAINED, "InternalServerError", 503, "no_healthy_upstream"),
}
"""Key, model, and what comes of them: the SDK's exception, the status, and the router's reason."""

REFUSED = [
    call("limited-first", "embeddings.create", key="limited", model=MODEL, input="one"),
    *(
        call(f"{place}-{name}", method, key=key, model=model, **arguments)
        for place, (method, arguments) in PLACES.items()
        for name, (key, model, *_) in REFUSALS.items()
    ),
    *(
        call(f"{place}-refusing", method, model="refusing", **arguments)
        for place, (method, arguments) in PLACES.items()
    ),
    call("embedding-odd", "embeddings.create", model=7, input="one"),
    call("foreign", "responses.retrieve", stored("response"), key="other"),
    call(
        "foreign-previous",
        "responses.create",
        key="other",
        model=MODEL,
        input="And?",
        previous_response_id=stored("response"),
    ),
    call("never-stored", "responses.retrieve", stored("nothing")),
]

CUT = [
    call("completion-cut", "completions.create", **_STREAM, model="cutting", prompt="Say hello."),
    call("response-cut", "responses.create", **_STREAM, model="cutting", input=asked("response-cut")),
    call("image-cut", "images.generate", **_STREAM, model="cutting", prompt="A cat."),
    call("transcription-cut", "audio.transcriptions.create", **_STREAM, model="cutting", file=AUDIO),
    call("speech-cut", "audio.speech.create", read="bytes", model="cutting", voice="alloy", input=SPOKEN),
]

CALLS = [*(each.call for each in CASES), *MODELS, *REFUSED, *CUT]
