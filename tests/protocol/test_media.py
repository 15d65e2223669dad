import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.events import Usage
from router.protocol.facts import BodyFacts, ChunkFacts, ErrorFacts, Meaning
from router.protocol.media import IMAGES, SPEECH, TRANSCRIPTIONS, plain_delta, read_body, read_chunk, read_pictures

CONTENT, FINISH, USAGE, ERROR = Meaning.CONTENT, Meaning.FINISH, Meaning.USAGE, Meaning.ERROR
DONE, COMMENT, OTHER, BAD = Meaning.DONE, Meaning.COMMENT, Meaning.OTHER, Meaning.BAD
USED = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}


def data(said: Any) -> bytes:
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        ("image_generation.partial_image", CONTENT),
        ("image_edit.partial_image", CONTENT),
        ("image_generation.completed", CONTENT | FINISH),
        ("image_edit.completed", CONTENT | FINISH),
        ("speech.audio.delta", CONTENT),
        ("speech.audio.done", FINISH),
        ("transcript.text.delta", CONTENT),
        ("transcript.text.segment", CONTENT),
        ("transcript.text.done", CONTENT | FINISH),
        ("image_generation.in_progress", OTHER),
        ("invented", OTHER),
        ("error", ERROR),
    ],
)
def test_events(kind: str, meaning: Meaning) -> None:
    """An event means what its `type` says, or else its name; usage is read wherever it stands."""
    reported = meaning if meaning in (OTHER, ERROR) else meaning | USAGE
    for raw in (data({"type": kind, "usage": USED}), b"event: " + kind.encode() + b"\n" + data({"usage": USED})):
        facts = read_chunk(raw)
        assert facts.meaning == (USAGE if meaning == OTHER else reported)
        assert facts.usage == (None if meaning == ERROR else USED)
        assert facts.finished == ((0,) if meaning & FINISH else ())
    assert read_chunk(data({"type": kind})).meaning == meaning
    assert read_chunk(data({"type": kind, "usage": [1]})).meaning == meaning


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (data({"type": "error", "error": {"code": "moderation_blocked", "message": "m"}}), "moderation_blocked"),
        (data({"error": {"code": 429, "message": "m"}}), "429"),
        (data({"type": "speech.audio.delta", "error": {"code": "c", "message": "m"}}), "c"),
        (b"event: error\n" + data({"code": "c", "message": "m"}), "c"),
        (data({"object": "error", "code": "c", "message": "m"}), "c"),
    ],
)
def test_errors(raw: bytes, code: str) -> None:
    """Every way an upstream reports a failure is seen, with what it says."""
    facts = read_chunk(raw)
    assert facts.meaning == ERROR
    assert facts.error is not None
    assert (facts.error.code, facts.error.message) == (code, "m")


@pytest.mark.parametrize(
    ("raw", "meaning"),
    [
        (b": ka\n", COMMENT),
        (b"data: [DONE]\n\n", DONE),
        (b"data: \n\n", BAD),
        (b"data: 3\n\n", BAD),
        (b"event: error\n\n", ERROR),
    ],
)
def test_events_without_an_object(raw: bytes, meaning: Meaning) -> None:
    """Comments are comments, `[DONE]` is an end, and garbage is bad."""
    assert read_chunk(raw).meaning == meaning


def test_pictures_without_usage_are_counted() -> None:
    """Pictures that come without a report are added up; a report of tokens stands for all of them."""
    picture = read_chunk(data({"type": "image_generation.completed", "b64_json": "AA=="}))
    assert picture.usage is not None
    usage = IMAGES.merge(IMAGES.merge(None, picture.usage), picture.usage)
    assert IMAGES.account(usage) == Usage(images=2)
    assert IMAGES.merge(usage, USED) == USED
    assert IMAGES.account(IMAGES.merge(USED, picture.usage)) == Usage(input=3, output=1)
    assert IMAGES.merge({"images": "x"}, picture.usage) == {"images": "x"}


@pytest.mark.parametrize(
    "raw",
    [
        data({"type": "speech.audio.delta", "audio": "AA=="}),
        data({"type": "transcript.text.delta", "delta": 'of "usage" and "error"'}),
        data({"type": "transcript.text.delta", "delta": "x", "logprobs": []}).replace(b'":"', b'": "'),
        data({"type": "speech.audio.delta", "audio": "AA=="}).replace(b"\n", b"\r\n"),
    ],
)
def test_plain_delta(raw: bytes) -> None:
    """An ordinary piece of sound or text is recognised without decoding."""
    assert plain_delta(raw)
    assert read_chunk(raw) == ChunkFacts(CONTENT, output_deltas=1)


PLAIN = data({"type": "speech.audio.delta", "audio": "AA=="})


@pytest.mark.parametrize(
    "raw",
    [
        data({"type": "speech.audio.done", "usage": USED}),
        data({"type": "speech.audio.delta", "usage": USED}),
        data({"type": "speech.audio.delta", "error": {}}),
        data({"type": "speech.audio.delta", "choices": []}),
        data({"type": "speech.audio.delta", "x": {"type": "y"}}),
        b"event: error\n" + PLAIN,
        PLAIN[:-1] + b"event: error\n\n",
        PLAIN[:-2] + b"\revent: error\n\n",
        PLAIN[:-2],
        PLAIN[:-3] + b"\n\n",
        PLAIN + PLAIN,
        b"",
    ],
)
def test_what_is_not_plain(raw: bytes) -> None:
    """Whatever may end, fail or carry usage is left to the thorough reading."""
    assert not plain_delta(raw)


KINDS = ["speech.audio.delta", "speech.audio.done", "transcript.text.delta", "image_edit.completed", "error"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["type", *KINDS]) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "usage", "error", "delta"]), inner),
    max_leaves=8,
)
MEMBERS = ["type", "object", "usage", "error", "choices", "data", "text", "id", "audio"]
ODD = st.fixed_dictionaries({}, optional=dict.fromkeys(MEMBERS, VALUES))


@given(ODD, st.sampled_from(KINDS), st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]))
def test_the_cheap_test_never_contradicts_the_thorough_one(
    said: dict[str, Any], kind: str, separators: tuple[str, str]
) -> None:
    """No shape raises, and whatever the cheap test lets pass is a piece of the answer and nothing else."""
    for shape in (said, {"type": kind, **said}, {**said, "type": kind}):
        raw = b"data: " + json.dumps(shape, separators=separators).encode() + b"\n\n"
        facts = read_chunk(raw)
        assert not plain_delta(raw) or facts == ChunkFacts(CONTENT, output_deltas=1)
        read_body(raw[6:])
        read_pictures(raw[6:])


@given(st.binary(), st.sampled_from([b"", b"data: ", b'data: {"type":"speech.audio.delta",', b"event: error\n"]))
def test_no_bytes_raise(raw: bytes, prefix: bytes) -> None:
    """Any bytes are read or passed over."""
    plain_delta(prefix + raw)
    read_chunk(prefix + raw)
    read_body(raw)
    read_pictures(raw)


def test_pictures() -> None:
    """Pictures are counted; where no usage is reported, the count is what there is to account for."""
    raw = b'{"created":1,"data":[{"b64_json":"AA=="},{"url":"x","revised_prompt":null}]%s}'
    assert read_pictures(raw % b"") == BodyFacts(is_object=True, usage={"images": 2}, images=2)
    reported = read_pictures(raw % b',"usage":{"input_tokens":3,"output_tokens":1}')
    assert reported == BodyFacts(is_object=True, usage={"input_tokens": 3, "output_tokens": 1}, images=2)
    assert read_pictures(b'{"data":["x",{"b64_json":"\\ud83d"}]}') == BodyFacts(
        is_object=True, usage={"images": 2}, images=2
    )
    assert read_pictures(b'{"data":[]}') == BodyFacts(is_object=True)
    assert read_pictures(b'{"data":{"a":1}}') == BodyFacts(is_object=True)
    for garbage in (b"", b"[]", b"null", b'{"data":[', b"\x89PNG"):
        assert read_pictures(garbage) == BodyFacts(is_object=False)


@pytest.mark.parametrize(
    ("usage", "record"),
    [
        (
            {"type": "tokens", "input_tokens": 14, "input_token_details": {"text_tokens": 4, "audio_tokens": 10}},
            Usage(input=4, audio_in=10),
        ),
        ({"type": "duration", "seconds": 8.5}, Usage(seconds=8.5)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, Usage(input=5, output=2)),
    ],
)
def test_transcription_bodies(usage: dict[str, Any], record: Usage) -> None:
    """A transcription reports tokens or a length, and vLLM the tokens of a chat; all are accounted for."""
    facts = TRANSCRIPTIONS.body(json.dumps({"text": "x", "usage": usage}).encode())
    assert facts == BodyFacts(is_object=True, usage=usage)
    assert facts.usage is not None
    assert TRANSCRIPTIONS.account(facts.usage) == record


def test_an_error_in_a_success() -> None:
    """A 200 with an error and no answer is a failure; with pictures or text beside it, it is an answer."""
    for read in (IMAGES.body, SPEECH.body, TRANSCRIPTIONS.body):
        error = read(b'{"error":{"code":"moderation_blocked","message":"m"}}').error
        assert error == ErrorFacts(code="moderation_blocked", message="m", conforming=True)
        assert read(b'{"object":"error","message":"m"}').error is not None
        assert read(b'{"error":null,"text":""}').error is None
    assert IMAGES.body(b'{"error":{"message":"m"},"data":[{"url":"x"}]}').error is None
    assert TRANSCRIPTIONS.body(b'{"error":{"message":"m"},"text":"x"}').error is None


def test_a_stream_needs_its_end() -> None:
    """No marker is written at the end, and a stream that stops without its last event is not whole."""
    for reading in (IMAGES, SPEECH, TRANSCRIPTIONS):
        assert (reading.done, reading.open_ended) == (b"", False)
