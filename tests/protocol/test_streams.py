"""Recorded streams of every dialect (PROTOCOL 12): what each event means, what is counted, whether the answer is whole.

`samples` holds chats and legacy completions, `streams` everything else; a file is named by what it shows.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.events import Usage
from router.policy.outcomes import Cause, of_error_body
from router.protocol import sse
from router.protocol.anthropic import MESSAGES
from router.protocol.facts import ChunkFacts, Meaning, Reading
from router.protocol.generic import JSON
from router.protocol.media import IMAGES, SPEECH, TRANSCRIPTIONS
from router.protocol.openai import CHAT, COMPLETIONS
from router.protocol.responses import RESPONSES

FILES = {
    path.stem: path for folder in ("samples", "streams") for path in (Path(__file__).parent / folder).glob("*.sse")
}

LETTERS = {
    "C": Meaning.CONTENT,
    "F": Meaning.FINISH,
    "U": Meaning.USAGE,
    "H": Meaning.USAGE_ONLY,
    "E": Meaning.ERROR,
    "D": Meaning.DONE,
    "K": Meaning.COMMENT,
    "O": Meaning.OTHER,
    "B": Meaning.BAD,
}


class Stream(NamedTuple):
    """What is expected of one file."""

    reading: Reading
    meanings: str
    """A word of `LETTERS` for each event, and after a bar one for what is left without its blank line."""
    usage: Usage | None
    whole: bool
    id: str = ""


CHATTED = Usage(input=6, cache_read=3, output=4)
REPLIED = Usage(input=32, cache_read=5, output=11, reasoning=4)
RESPONSE = "resp_67c9fdcecf488190bdd9a0409de3a1ec"

STREAMS = {
    "chat_lf": Stream(CHAT, "O C F UH D", CHATTED, whole=True),
    "chat_crlf": Stream(CHAT, "O C F UH D", CHATTED, whole=True),
    "chat_cr": Stream(CHAT, "O C F UH D", CHATTED, whole=True),
    "chat_bom": Stream(CHAT, "O C F UH D", CHATTED, whole=True),
    "chat_comments": Stream(CHAT, "K K O C F K K D", None, whole=True),
    "usage_on_finish": Stream(CHAT, "O C FU D", CHATTED, whole=True),
    "usage_litellm": Stream(CHAT, "O C F UH D", CHATTED, whole=True),
    "usage_every_chunk": Stream(CHAT, "U CU FU D", Usage(input=9, output=4), whole=True),
    "usage_groq": Stream(CHAT, "O C FU D", CHATTED, whole=True),
    "no_done": Stream(CHAT, "O C FU", CHATTED, whole=True),
    "unterminated_done": Stream(CHAT, "C F | D", None, whole=True),
    "cut_in_emoji": Stream(CHAT, "O C | B", None, whole=False),
    "error_midway": Stream(CHAT, "O C E D", None, whole=False),
    "error_openrouter": Stream(CHAT, "C E", None, whole=False),
    "azure_first": Stream(CHAT, "O O C F UH D", CHATTED, whole=True),
    "tool_calls": Stream(CHAT, "O C C F D", None, whole=True),
    "completions_llamacpp": Stream(COMPLETIONS, "C FU D", CHATTED, whole=True),
    "anthropic_text": Stream(
        MESSAGES,
        "U O C C O FU D",
        Usage(input=25, cache_read=2000, cache_write=60, cache_write_long=40, output=15),
        whole=True,
    ),
    "anthropic_tool": Stream(MESSAGES, "U O C O C O C O FU D", Usage(input=25, output=89), whole=True),
    "anthropic_thinking": Stream(
        MESSAGES, "U O C C O C O O C O FU D", Usage(input=25, output=60, reasoning=40), whole=True
    ),
    "anthropic_ping": Stream(MESSAGES, "K U K O K C K O FU K D", Usage(input=25, output=3), whole=True),
    "anthropic_two_message_delta": Stream(
        MESSAGES, "U O C O U FU D", Usage(input=31, cache_read=7, output=4), whole=True
    ),
    "anthropic_missing_usage": Stream(MESSAGES, "O O C O F D", None, whole=True),
    "anthropic_missing_message_start": Stream(MESSAGES, "O C O FU D", Usage(input=9, output=2), whole=True),
    "anthropic_search": Stream(
        MESSAGES, "U C C O C O O C C O FU D", Usage(input=25, output=30, searches=1), whole=True
    ),
    "anthropic_error": Stream(MESSAGES, "U O C E", Usage(input=25, output=1), whole=False),
    "anthropic_error_first": Stream(MESSAGES, "E", None, whole=False),
    "anthropic_cut": Stream(MESSAGES, "U O C | B", Usage(input=25, output=1), whole=False),
    "anthropic_no_stop": Stream(MESSAGES, "U O C O FU", Usage(input=25, output=3), whole=True),
    "anthropic_crlf": Stream(MESSAGES, "U O C O FU D", Usage(input=25, output=3), whole=True),
    "responses_completed": Stream(RESPONSES, "O O C C C C C CFUD", REPLIED, whole=True, id=RESPONSE),
    "responses_incomplete": Stream(RESPONSES, "O O C C C C C CFUD", REPLIED, whole=True, id=RESPONSE),
    "responses_failed": Stream(RESPONSES, "O O C C C C C EUD", Usage(input=37, output=2), whole=False, id=RESPONSE),
    "responses_error": Stream(RESPONSES, "O O C C C C C ED", None, whole=False, id=RESPONSE),
    "responses_error_first": Stream(RESPONSES, "ED", None, whole=False),
    "responses_only_completed": Stream(RESPONSES, "CFUD", REPLIED, whole=True, id=RESPONSE),
    "responses_done": Stream(RESPONSES, "O O C C C C C CFUD D", REPLIED, whole=True, id=RESPONSE),
    "responses_reasoning_tool": Stream(RESPONSES, "O O C C C K C CFUD", REPLIED, whole=True, id=RESPONSE),
    "responses_queued": Stream(RESPONSES, "O O C CFUD", REPLIED, whole=True, id=RESPONSE),
    "responses_type_last": Stream(RESPONSES, "O C CFUD", REPLIED, whole=True, id="resp_1"),
    "responses_cut": Stream(RESPONSES, "O O C C C", None, whole=False, id=RESPONSE),
    "transcription": Stream(TRANSCRIPTIONS, "C C CFU D", Usage(audio_in=14, output=45), whole=True),
    "transcription_segments": Stream(TRANSCRIPTIONS, "C C CFU", Usage(seconds=4.0), whole=True),
    "transcription_vllm": Stream(TRANSCRIPTIONS, "C CF UH D", Usage(input=5, output=3), whole=True),
    "speech": Stream(SPEECH, "C C FU", Usage(input=14, output=101), whole=True),
    "speech_error": Stream(SPEECH, "C E", None, whole=False),
    "image_generation": Stream(IMAGES, "C CFU", Usage(input=10, image_in=40, output=50), whole=True),
    "image_edit": Stream(IMAGES, "C CFU D", Usage(input=10, image_in=40, output=50), whole=True),
    "image_without_usage": Stream(IMAGES, "CF CF", Usage(images=2), whole=True),
    "image_error": Stream(IMAGES, "C E", None, whole=False),
    "generic": Stream(JSON, "K C C CU CU", Usage(input=3, output=2), whole=True),
    "generic_done": Stream(JSON, "CU D", Usage(input=3, output=2), whole=True),
    "generic_error": Stream(JSON, "C E", None, whole=False),
}


def events(pieces: Iterable[bytes]) -> list[bytes]:
    """Every event of a stream that comes in these pieces, the one without its blank line as well."""
    reader = sse.EventReader()
    whole = [event for piece in pieces for event in reader.feed(piece)]
    return [*whole, rest] if (rest := reader.flush()) else whole


def read(reading: Reading, blocks: list[bytes]) -> tuple[dict[str, Any] | None, bool, str]:
    """What a stream amounts to: its usage, whether it is whole, the id of its answer."""
    usage, identity, finished, ended, failed = None, "", False, reading.open_ended, False
    for facts in map(reading.chunk, blocks):
        if facts.usage is not None:
            usage = reading.merge(usage, facts.usage)
        identity = facts.id or identity
        finished = finished or bool(facts.finished)
        ended = ended or bool(facts.meaning & Meaning.DONE)
        failed = failed or facts.error is not None
    return usage, (finished or ended) and not failed, identity


def meaning(word: str) -> Meaning:
    letters = (LETTERS[letter] for letter in word)
    return Meaning(sum(letters))


def test_every_file_is_read() -> None:
    """No stream lies unused."""
    assert FILES.keys() == STREAMS.keys()


@pytest.mark.parametrize("name", STREAMS)
def test_streams(name: str) -> None:
    """Each event means what it should; usage, id and the end of the answer are read from it."""
    expected = STREAMS[name]
    raw = FILES[name].read_bytes()
    blocks = events([raw])
    assert [expected.reading.chunk(block).meaning for block in blocks] == [
        meaning(word) for word in expected.meanings.replace("| ", "").split()
    ]
    reader = sse.EventReader()
    assert len(reader.feed(raw)) == len(expected.meanings.partition(" |")[0].split())
    usage, whole, identity = read(expected.reading, blocks)
    record = None if usage is None else expected.reading.account(usage)
    assert (record, whole, identity) == (expected.usage, expected.whole, expected.id)


@pytest.mark.parametrize("name", STREAMS)
def test_places_of_the_cuts_mean_nothing(name: str) -> None:
    """Cut at any place into two, or into single bytes, a stream gives the same facts."""
    raw, chunk = FILES[name].read_bytes(), cache(STREAMS[name].reading.chunk)
    expected: list[ChunkFacts] = [chunk(block) for block in events([raw])]
    for place in range(len(raw) + 1):
        assert [chunk(block) for block in events([raw[:place], raw[place:]])] == expected
    assert [chunk(block) for block in events(raw[at : at + 1] for at in range(len(raw)))] == expected


@pytest.mark.parametrize("name", STREAMS)
def test_the_cheap_test_never_contradicts_the_thorough_one(name: str) -> None:
    """What is taken for a mere piece of content carries neither usage, nor an error, nor an end."""
    reading = STREAMS[name].reading
    for block in events([FILES[name].read_bytes()]):
        facts = reading.chunk(block)
        assert not reading.plain(block) or (facts.meaning in (Meaning.CONTENT, Meaning.OTHER) and facts.usage is None)


@pytest.mark.parametrize(
    "name",
    ["chat_lf", "anthropic_text", "anthropic_tool", "responses_completed", "responses_type_last", "transcription",
     "speech", "generic"],
)  # fmt: skip
def test_ordinary_pieces_are_plain(name: str) -> None:
    """The cheap test knows the pieces of each dialect's ordinary streams, or it would be no use."""
    reading = STREAMS[name].reading
    assert any(map(reading.plain, events([FILES[name].read_bytes()])))


@pytest.mark.parametrize(("name", "expected"), STREAMS.items())
def test_the_first_error_is_read(name: str, expected: Stream) -> None:
    """An error event comes with what the upstream said: its words and a code or type to judge it by."""
    facts = [expected.reading.chunk(block) for block in events([FILES[name].read_bytes()])]
    for one in facts:
        assert (one.error is not None) == bool(one.meaning & Meaning.ERROR)
        assert one.error is None or (one.error.message and (one.error.code or one.error.type))


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("error_midway", Cause.HTTP_5XX),
        ("error_openrouter", Cause.HTTP_5XX),
        ("anthropic_error", Cause.OVERLOADED),
        ("anthropic_error_first", Cause.RATE_LIMITED),
        ("responses_failed", Cause.HTTP_5XX),
        ("responses_error", Cause.RATE_LIMITED),
        ("responses_error_first", Cause.OVERLOADED),
        ("speech_error", Cause.HTTP_5XX),
        ("generic_error", Cause.HTTP_5XX),
    ],
)
def test_errors_can_be_judged(name: str, cause: Cause) -> None:
    """What is read in an error event tells a rate limit from an overload and both from a fault, in every dialect."""
    reading = STREAMS[name].reading
    errors = [reading.chunk(block).error for block in events([FILES[name].read_bytes()])]
    error = next(one for one in errors if one is not None)
    assert of_error_body(error.code, error.type, error.message).cause == cause


@given(st.lists(st.sampled_from([b"event: a", b"event: error", b"event:b", b"data: x", b"data:y", b"id: 1", b":", b"\r",
                                 b"\n", b"\n\n", b"\r\n", b"\xff", b"event"])).map(b"".join))  # fmt: skip
@example(b"event: a\ndata: x\n\n")
@example(b"event: a\ndata: x\ndata: y\n\n")
@example(b"event: a\ndata: x\rdata: y\n\n")
@example(b"event: a\revent: error\ndata: x\n\n")
@example(b"event:  a\ndata:  x\n\n")
def test_name_and_data_together(event: bytes) -> None:
    """Name and data of an event are the same, read one by one or at once."""
    assert sse.name_and_data(event) == (sse.name_of(event), sse.data_of(event))
