"""Pictures are counted wherever a prompt can show them, and nothing in a body that upstreams take makes them free."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.pictures import count_pictures
from router.protocol.splice import read_ask

IMAGE_URL = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
INPUT_IMAGE = {"type": "input_image", "file_id": "file-1"}
IMAGE = {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}
TEXT = {"type": "text", "text": 'no {"type":"image_url"} at all'}


def chat(*content: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": each} for each in content]}


PROMPTS: dict[str, tuple[dict[str, Any], int]] = {
    "none": (chat("text"), 0),
    "one": (chat([TEXT, IMAGE_URL]), 1),
    "several in several messages": (chat([IMAGE_URL, IMAGE_URL], "x", [TEXT], [IMAGE_URL]), 3),
    "anthropic": (chat([IMAGE, TEXT]), 1),
    "anthropic tool result": (chat([{"type": "tool_result", "tool_use_id": "t", "content": [TEXT, IMAGE]}]), 1),
    "responses": ({"input": [{"role": "user", "content": [INPUT_IMAGE, {"type": "input_text", "text": "x"}]}]}, 1),
    "responses tool result": ({"input": [{"type": "function_call_output", "output": [INPUT_IMAGE, INPUT_IMAGE]}]}, 2),
    "responses text": ({"input": "image_url"}, 0),
    "both": ({"input": [{"content": [INPUT_IMAGE]}], **chat([IMAGE_URL])}, 2),
    "elsewhere": ({"tools": [{"content": [IMAGE]}], "metadata": IMAGE, **chat("x")}, 0),
    "what a picture holds": (chat([{**IMAGE, "content": [IMAGE]}]), 1),
    "other kinds": (
        chat([{"type": "input_audio"}, {"type": "file"}, {"type": ["image"]}, {"type": 1}, {}, None, 3]),
        0,
    ),
    "no types": (chat({"type": None, "content": [IMAGE_URL]}), 1),
    "odd members": ({"messages": {"a": [IMAGE]}, "input": 3}, 0),
}


@pytest.mark.parametrize(("prompt", "pictures"), PROMPTS.values(), ids=PROMPTS)
def test_every_image_part_counts_once(prompt: dict[str, Any], pictures: int) -> None:
    """Parts of the three types count, in messages, in items and in what tools return, and nothing else does."""
    assert count_pictures(json.dumps(prompt).encode()) == pictures
    assert count_pictures(json.dumps(prompt, indent=1).encode()) == pictures


def test_an_inline_picture_is_one() -> None:
    """A long picture in the body is passed over, not read, and counts like a link."""
    inline = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 10_000}}
    assert count_pictures(json.dumps(chat([inline, TEXT, inline])).encode()) == 2


@pytest.mark.parametrize(
    "beside",
    [b'"\\ud800"', b"9" * 5000, b"1E400", b"-0.0e-999", b"[" * 200 + b"]" * 200, b'"\\ud83d\\ude00"'],
    ids=["half a surrogate pair", "5000 digits", "beyond floats", "tiny", "deep", "a pair"],
)
def test_nothing_beside_them_makes_pictures_free(beside: bytes) -> None:
    """What no type of ours can hold, but a router that reads only what it needs accepts, hides no picture."""
    part = json.dumps(IMAGE_URL).encode()
    for body in (
        b'{"model":"m","x":%b,"messages":[{"content":[%b]}]}' % (beside, part),
        b'{"model":"m","messages":[{"content":[{"type":"text","text":%b},%b]}]}' % (beside, part),
        b'{"model":"m","messages":[{"content":%b},{"content":[%b,%b]}]}' % (beside, beside, part),
        b'{"model":"m","messages":[{"role":%b,"content":[%b]}]}' % (beside, part),
    ):
        assert read_ask(body).model == "m"
        assert count_pictures(body) == 1


def test_an_escaped_type_is_read() -> None:
    """However the type is spelt, it is the same type."""
    assert count_pictures(b'{"messages":[{"content":[{"t\\u0079pe":"im\\u0061ge_url"}]}]}') == 1


@pytest.mark.parametrize("levels", [1, 5, 20, 300, 480, 900, 100_000])
@pytest.mark.parametrize("level", ["[%b]", '{"content":%b}', '[{"content":%b}]'])
def test_depth_costs_nothing(level: str, levels: int) -> None:
    """Deeper than prompts can go nothing is looked for: each level would cost a reading of all below. None raises."""
    before, after = level.encode().split(b"%b")
    body = b'{"messages":' + before * levels + json.dumps(IMAGE).encode() + after * levels + b"}"
    assert count_pictures(body) == (levels <= 5)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"messages":[}', b'{"messages":"\xff"}', b"\xff", b"{}"])
def test_what_cannot_be_read_shows_none(body: bytes) -> None:
    """A body that is no JSON object has no pictures."""
    assert count_pictures(body) == 0


_PARTS = st.recursive(
    st.sampled_from([IMAGE_URL, INPUT_IMAGE, IMAGE, TEXT, "text", None, 1]),
    lambda inner: st.lists(inner, max_size=3) | st.fixed_dictionaries({"content": inner}),
    max_leaves=6,
)


@given(st.lists(_PARTS, max_size=4), st.lists(_PARTS, max_size=4))
def test_a_prompt_shows_what_its_halves_show(first: list[Any], second: list[Any]) -> None:
    """Pictures of messages and of input add up, whatever else stands there."""
    bodies = [{"messages": first}, {"input": second}, {"messages": first, "input": second}]
    left, right, both = (count_pictures(json.dumps(body).encode()) for body in bodies)
    assert left + right == both


@given(st.binary(max_size=40) | st.text('{}[]":,\\u0dtype content image messages', max_size=60).map(str.encode))
def test_any_bytes_are_counted(body: bytes) -> None:
    """Nothing is raised, and only an object shows any."""
    pictures = count_pictures(body)
    assert pictures == 0 or (pictures > 0 and body.strip().startswith(b"{"))
