"""An upstream that answers every endpoint of PROTOCOL 2 as the vendors do, and keeps what it was asked.

What is special about a request stands in its model's name: `refusing` answers 400, `busy` 429, `cutting` breaks off
in the middle of its answer. Responses are stored and can be asked for again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from tests.harness import answers, chat
from tests.harness.upstream import (
    Received,
    Script,
    ScriptedUpstream,
    Turn,
    chunks,
    cut,
    error,
    head,
    json_answer,
    last_chunk,
    plain,
    play,
    send,
    sse_head,
    sse_stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAME_HEADER = "x-client-request-id"
"""By what a client names its request, so that tests find it again at the upstream and in the router's records."""

PRIVATE = "org-private"
"""The operator's account: no client may see it."""
REFUSAL = "This upstream does not like that."
INPUT_TOKENS = 14
"""What counting answers, on either protocol."""

_HEADERS = (
    "x-request-id: req_upstream",
    "request-id: req_upstream",
    "openai-processing-ms: 12",
    f"openai-organization: {PRIVATE}",
    f"anthropic-organization-id: {PRIVATE}",
)
"""Of every answer: what both vendors send. Of these only the time reaches a client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a form."""

    name: str
    filename: str | None
    content_type: str | None
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as an upstream understands it."""

    method: str
    path: str
    """Without the `/v1`."""
    query: dict[str, str]
    fields: dict[str, Any]
    """The members of a JSON body, or the text fields of a form."""
    parts: tuple[Part, ...]
    """Of a form, files among them, in their order."""
    anthropic: bool

    @property
    def model(self) -> str:
        return str(self.fields.get("model", ""))

    @property
    def stream(self) -> bool:
        return self.fields.get("stream") in (True, "true")

    @property
    def wants_usage(self) -> bool:
        return bool((self.fields.get("stream_options") or {}).get("include_usage"))

    @property
    def count(self) -> int:
        """How many pictures."""
        return int(self.fields.get("n", 1))


def understand(received: Received) -> Asked:
    """Read a request. Raises what `json` and a broken form raise."""
    method, target, _ = received.line.decode("latin-1").split(" ")
    path, _, query = target.partition("?")
    assert path.startswith("/v1/"), path
    content_type = b"".join(received.values("content-type"))
    parts: tuple[Part, ...] = ()
    if content_type.startswith(b"multipart/form-data"):
        parts = tuple(form_parts(received.body, content_type))
        fields = {part.name: part.data.decode() for part in parts if part.filename is None}
    else:
        fields = json.loads(received.body) if received.body else {}
    return Asked(
        method=method,
        path=path.removeprefix("/v1"),
        query=dict(parse_qsl(query, strict_parsing=bool(query))),
        fields=fields,
        parts=parts,
        anthropic=bool(received.values("anthropic-version")),
    )


def form_parts(body: bytes, content_type: bytes) -> list[Part]:
    """Cut a form into its parts, to the byte; fails if it is not well-formed."""
    boundary = content_type.partition(b"boundary=")[2].strip(b'"')
    assert boundary
    first, *sections, end = (b"\r\n" + body).split(b"\r\n--" + boundary)
    assert (first, end.strip()) == (b"", b"--"), (first, end)
    parts = []
    for section in sections:
        lines, blank, data = section.partition(b"\r\n\r\n")
        assert blank, section[:80]
        rows = [row.partition(b":") for row in lines.removeprefix(b"\r\n").split(b"\r\n")]
        headers = {name.lower().decode(): value.strip().decode() for name, _, value in rows}
        words = headers["content-disposition"].split("; ")
        values = dict(word.split("=", 1) for word in words[1:])
        filename = values.get("filename")
        parts.append(
            Part(
                name=values["name"].strip('"'),
                filename=filename and filename.strip('"'),
                content_type=headers.get("content-type"),
                data=data,
            )
        )
    return parts


class EveryEndpoint(ScriptedUpstream):
    """The upstream. Requests it cannot understand are faults, as in `ScriptedUpstream`."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: dict[str, dict[str, Any]] = {}
        """Responses by id, with what was asked under `asked`."""
        self.always(self._play)

    def named(self, name: str) -> Received:
        """The one request that its client gave this name."""
        (received,) = [each for each in self.received if each.values(NAME_HEADER) == [name.encode()]]
        return received

    async def _play(self, turn: Turn) -> None:
        try:
            script = self._script(understand(turn.request))
        except (AssertionError, KeyError, ValueError) as failure:
            self.faults.append(f"{turn.request.line!r}: {failure!r}")
            script = error(500)
        await script(turn)

    def _script(self, asked: Asked) -> Script:
        if asked.model.endswith("refusing"):
            return _failure(asked, 400, "invalid_request_error", REFUSAL)
        if asked.model.endswith("busy"):
            return _failure(asked, 429, "rate_limit_error", f"The organization {PRIVATE} has no requests left.")
        answer = _ANSWERS.get((asked.method, asked.path))
        if answer is not None:
            return answer(asked)
        if asked.path.startswith("/responses"):
            return self._responses(asked)
        return _failure(asked, 404, "not_found_error", f"There is nothing at {asked.method} {asked.path}.")

    def _responses(self, asked: Asked) -> Script:
        """Whatever needs to know which responses are stored."""
        _, _, path = asked.path.removeprefix("/").partition("/")
        identity, _, action = path.partition("/")
        match asked.method, identity, action:
            case "POST", "", "":
                return self._create(asked)
            case "POST", "input_tokens", "":
                return _json({"object": "response.input_tokens", "input_tokens": INPUT_TOKENS})
            case "POST", "compact", "":
                return _json(answers.compacted(asked.fields.get("input")))
        kept = self.stored.get(identity)
        if kept is None:
            return _failure(asked, 404, "invalid_request_error", f"Response with id '{identity}' not found.")
        match asked.method, action:
            case "GET", "":
                return self._retrieve(asked, kept)
            case "GET", "input_items":
                return _json(answers.input_items(kept["asked"]))
            case "POST", "cancel":
                kept["answers"] = [answers.response(kept["asked"], status="cancelled", background=True)]
                return _json(kept["answers"][0])
            case "DELETE", "":
                del self.stored[identity]
                return _json({"id": identity, "object": "response", "deleted": True})
        return _failure(asked, 405, "invalid_request_error", "Method not allowed.")

    def _create(self, asked: Asked) -> Script:
        previous = asked.fields.get("previous_response_id")
        if previous is not None and previous not in self.stored:
            text = f"Previous response with id '{previous}' not found."
            return _failure(asked, 400, "invalid_request_error", text, code="previous_response_not_found")
        question = asked.fields.get("input")
        whole = answers.response(question, tools=bool(asked.fields.get("tools")), previous_response_id=previous)
        steps = [whole]
        if asked.fields.get("background"):
            steps = [
                answers.response(question, status=status, background=True)
                for status in ("queued", "in_progress", "completed")
            ]
        self.stored[whole["id"]] = {"asked": question, "answers": steps[-2:] if len(steps) > 1 else steps}
        return _events(asked, answers.response_events(whole)) if asked.stream else _json(steps[0])

    @staticmethod
    def _retrieve(asked: Asked, kept: dict[str, Any]) -> Script:
        """Tell how a response stands now; one in the background has gone on by the next time."""
        steps = kept["answers"]
        if asked.query.get("stream") != "true":
            return _json(steps.pop(0) if len(steps) > 1 else steps[0])
        return sse_stream(
            *answers.response_events(steps[-1])[int(asked.query.get("starting_after", "-1")) + 1 :], done=False
        )


def _json(body: object) -> Script:
    """With spaces that a router which writes JSON anew would not keep."""
    return json_answer(json.dumps(body, indent=1, ensure_ascii=False).encode(), *_HEADERS)


def _events(asked: Asked, events: Sequence[bytes], *, done: bool = False) -> Script:
    if asked.model.endswith("cutting"):
        return play(sse_head(*_HEADERS), chunks(*events[: len(events) * 2 // 3]), cut())
    return play(sse_head(*_HEADERS), chunks(*events, *([chat.DONE] if done else [])), last_chunk())


def _text(body: str) -> Script:
    return plain(200, body.encode(), "content-type: text/plain; charset=utf-8", *_HEADERS)


def _failure(asked: Asked, status: int, kind: str, text: str, *, code: str | None = None) -> Script:
    body = answers.anthropic_error(kind, text) if asked.anthropic else answers.error(kind, text, code=code)
    return error(status, json.dumps(body).encode(), *_HEADERS)


def _chat(asked: Asked) -> Script:
    tools = bool(asked.fields.get("tools"))
    if asked.stream:
        return _events(asked, answers.chat_events(tools=tools, usage=asked.wants_usage), done=True)
    return _json(answers.chat_completion(tools=tools))


def _completions(asked: Asked) -> Script:
    if asked.stream:
        return _events(asked, answers.completion_events(usage=asked.wants_usage), done=True)
    return _json(answers.completion(answers.TEXT) | {"usage": answers.COMPLETION_USAGE})


def _embeddings(asked: Asked) -> Script:
    asked_for = asked.fields["input"]
    count = len(asked_for) if isinstance(asked_for, list) else 1
    return _json(answers.embeddings(count, as_base64=asked.fields.get("encoding_format") == "base64"))


def _generations(asked: Asked) -> Script:
    if asked.stream:
        return _events(asked, answers.image_events("image_generation"))
    return _json(answers.images(asked.count))


def _edits(asked: Asked) -> Script:
    files = [part for part in asked.parts if part.name in ("image", "image[]")]
    assert files or asked.fields.get("images"), "an edit has pictures"
    return _events(asked, answers.image_events("image_edit")) if asked.stream else _json(answers.images(asked.count))


def _variations(asked: Asked) -> Script:
    assert [part.name for part in asked.parts if part.filename] == ["image"]
    return _json(answers.images(asked.count, usage=False))


def _speech(asked: Asked) -> Script:
    if asked.fields.get("stream_format") == "sse":
        return _events(asked, answers.speech_events())
    begun = send(head(200, "content-type: audio/mpeg", "transfer-encoding: chunked", *_HEADERS))
    if asked.model.endswith("cutting"):
        return play(begun, chunks(*answers.SOUND[:-1]), cut())
    return play(begun, chunks(*answers.SOUND), last_chunk())


def _transcriptions(asked: Asked) -> Script:
    assert [part.name for part in asked.parts if part.filename] == ["file"]
    match asked.fields.get("response_format"):
        case _ if asked.stream:
            return _events(asked, answers.transcription_events())
        case "text":
            return _text(answers.TEXT + "\n")
        case "srt":
            return _text(answers.SUBTITLES)
        case "verbose_json":
            return _json(answers.verbose_transcription())
        case _:
            return _json(answers.transcription())


def _translations(asked: Asked) -> Script:
    assert [part.name for part in asked.parts if part.filename] == ["file"]
    return (
        _text(answers.TEXT + "\n") if asked.fields.get("response_format") == "text" else _json({"text": answers.TEXT})
    )


def _messages(asked: Asked) -> Script:
    what = {"tools": bool(asked.fields.get("tools")), "thinking": bool(asked.fields.get("thinking"))}
    return _events(asked, answers.message_events(**what)) if asked.stream else _json(answers.message(**what))


def _models(asked: Asked) -> Script:
    return _json((answers.anthropic_models if asked.anthropic else answers.models)("served", "served-claude"))


def _rerank(asked: Asked) -> Script:
    return _json(answers.rerank(asked.fields["documents"]))


_ANSWERS: dict[tuple[str, str], Callable[[Asked], Script]] = {
    ("POST", "/chat/completions"): _chat,
    ("POST", "/completions"): _completions,
    ("POST", "/embeddings"): _embeddings,
    ("POST", "/images/generations"): _generations,
    ("POST", "/images/edits"): _edits,
    ("POST", "/images/variations"): _variations,
    ("POST", "/audio/speech"): _speech,
    ("POST", "/audio/transcriptions"): _transcriptions,
    ("POST", "/audio/translations"): _translations,
    ("POST", "/moderations"): lambda _: _json(answers.moderation()),
    ("POST", "/rerank"): _rerank,
    ("POST", "/decisions"): lambda _: _json(answers.decision()),
    ("POST", "/messages"): _messages,
    ("POST", "/messages/count_tokens"): lambda _: _json({"input_tokens": INPUT_TOKENS}),
    ("GET", "/models"): _models,
}
"""Method and path to what they are answered with; the Responses endpoints keep a state and are the class's."""
