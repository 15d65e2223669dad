import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.translate import message_blocks
from router.protocol.translate.message_blocks import CALLS_MAX, WAITING_CHARS_MAX, Blocks, event


def piece(
    index: int | None, arguments: Any = "", identity: str | None = None, name: str | None = None
) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments} if name is not None else {"arguments": arguments}
    call: dict[str, Any] = {"function": function}
    if index is not None:
        call["index"] = index
    if identity is not None:
        call["id"] = identity
    return call


class Written:
    """Blocks and what they wrote, in a short form: `+0 text`, `0 hi`, `-0`."""

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.blocks = Blocks("m", self.out)

    def taken(self) -> list[str]:
        lines = [self._short(one) for one in self.out]
        self.out.clear()
        return lines

    @staticmethod
    def _short(one: bytes) -> str:
        name, data, *end = one.decode().split("\n")
        assert end == ["", ""]
        read = json.loads(data.removeprefix("data: "))
        assert name == f"event: {read['type']}"
        if read["type"] == "content_block_start":
            block = read["content_block"]
            more = f" {block['id']} {block['name']}" if block["type"] == "tool_use" else ""
            return f"+{read['index']} {block['type']}{more}"
        if read["type"] == "content_block_stop":
            return f"-{read['index']}"
        delta = read["delta"]
        kind = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}[delta["type"]]
        return f"{read['index']} {delta[kind]}"


def test_an_event() -> None:
    """An event has its name twice, on a line and in its data, and ends with a blank line."""
    assert event("ping", a=[1]) == b'event: ping\ndata: {"type":"ping","a":[1]}\n\n'


def test_text_and_thinking() -> None:
    """A block lasts as long as its kind; another kind ends it, and the end of the answer ends the last."""
    written = Written()
    for kind, text in (("thinking", "h"), ("thinking", "m"), ("text", "a"), ("text", "b"), ("thinking", "c")):
        written.blocks.say(kind, text)
    assert written.taken() == [
        "+0 thinking", "0 h", "0 m", "-0", "+1 text", "1 a", "1 b", "-1", "+2 thinking", "2 c",
    ]  # fmt: skip
    written.blocks.close_all()
    assert written.taken() == ["-2"]
    written.blocks.close_all()
    assert written.taken() == []


def test_a_call_flows() -> None:
    """The pieces of a call go out as they come, and the next call begins once the arguments are complete."""
    written = Written()
    written.blocks.call(piece(0, '{"a', "t1", "f"))
    assert written.taken() == ["+0 tool_use t1 f", '0 {"a']
    written.blocks.call(piece(0, '":1}'))
    assert written.taken() == ['0 ":1}']
    written.blocks.call(piece(1, "{}", "t2", "g"))
    assert written.taken() == ["-0", "+1 tool_use t2 g", "1 {}"]
    assert written.blocks.called
    assert not written.blocks.fault


def test_interleaved_calls_wait() -> None:
    """What comes while a call is incomplete waits, each piece for its own block, in the order the blocks began."""
    written = Written()
    written.blocks.call(piece(0, '{"a"', "t1", "f"))
    written.blocks.call(piece(1, '{"b"', "t2", "g"))
    written.blocks.say("text", "x")
    written.blocks.call(piece(2, "{", "t3", "h"))
    written.blocks.call(piece(1, ":2}"))
    assert written.taken() == ["+0 tool_use t1 f", '0 {"a"']
    written.blocks.call(piece(0, ":1}"))
    assert written.taken() == [
        "0 :1}", "-0", "+1 tool_use t2 g", '1 {"b":2}', "-1", "+2 text", "2 x", "-2", "+3 tool_use t3 h", "3 {",
    ]  # fmt: skip
    written.blocks.close_all()
    assert written.taken() == ["-3"]
    assert not written.blocks.fault


def test_calls_that_are_never_complete_are_told_at_the_end() -> None:
    """Calls without arguments, or with odd ones, keep the others waiting no longer than to the end of the answer."""
    written = Written()
    for index in range(3):
        written.blocks.call(piece(index, "", f"t{index}", "f"))
    written.blocks.call(piece(2, "5"))
    written.blocks.close_all()
    assert written.taken() == [
        "+0 tool_use t0 f", "-0", "+1 tool_use t1 f", "-1", "+2 tool_use t2 f", "2 5", "-2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    ["{}", ' {"a":"}"} ', '{"a":"\\"}"}', '{"a":"\\\\"}', '{"a":[{"b":"]"}]}', '{"a":"\\u007d{","b":{}}', '{"é":"{"}'],
)
def test_arguments_are_complete_with_their_last_bracket(arguments: str) -> None:
    """Wherever arguments are cut, they are incomplete before their last bracket and complete with it."""
    complete = arguments.rindex("}") + 1
    for cut in range(1, len(arguments)):
        for end in range(cut, len(arguments) + 1):
            written = Written()
            written.blocks.call(piece(0, arguments[:cut], "t1", "f"))
            written.blocks.call(piece(0, arguments[cut:end]))
            written.blocks.say("text", "x")
            assert (written.taken()[-1] == "1 x") is (end >= complete)


def test_ids_and_names() -> None:
    """Each call has an id of its own and its name, however sparsely the upstream numbers and names its pieces."""
    written = Written()
    written.blocks.call(piece(0, "{}", "a", "f"))
    written.blocks.call(piece(0, "{}", "b", "f"))  # another id with a name, at the same index: Ollama
    written.blocks.call(piece(None, "{}", None, "g"))  # a name without index and id
    written.blocks.call(piece(None, "{", "d", "h"))
    written.blocks.call(piece(None, "}"))  # neither: goes on
    written.blocks.close_all()
    assert not written.blocks.fault
    assert [line for line in written.taken() if line.startswith("+")] == [
        "+0 tool_use a f", "+1 tool_use b f", "+2 tool_use call_m_2 g", "+3 tool_use d h",
    ]  # fmt: skip


def test_pieces_that_repeat_the_head() -> None:
    """An id made up per piece, or a name repeated, begins no new call."""
    written = Written()
    written.blocks.call(piece(0, "", "a", "f"))
    written.blocks.call(piece(0, "{", "z"))
    written.blocks.call(piece(0, "}", "a", "f"))
    written.blocks.call(piece(0, "", None, "f"))
    assert written.taken() == ["+0 tool_use a f", "0 {", "0 }"]


def test_a_name_that_comes_late() -> None:
    """A call is opened when its name is known; without one the answer cannot be told."""
    written = Written()
    written.blocks.call(piece(0, "{", "a"))
    assert written.taken() == []
    written.blocks.call(piece(0, "}", None, "f"))
    assert written.taken() == ["+0 tool_use a f", "0 {}"]
    written.blocks.call(piece(1, "{}", "b"))
    assert written.taken() == ["-0"]
    written.blocks.close_all()
    assert written.blocks.fault


def test_what_follows_complete_arguments() -> None:
    """White space after complete arguments is nothing; more of them than was told is a fault."""
    written = Written()
    written.blocks.call(piece(0, "{}", "a", "f"))
    written.blocks.call(piece(1, "{}", "b", "g"))
    written.blocks.call(piece(0, "\n"))
    assert not written.blocks.fault
    written.blocks.call(piece(0, "x"))
    assert written.blocks.fault


def test_arguments_as_an_object() -> None:
    """Arguments that come as an object are told as the JSON they are."""
    written = Written()
    written.blocks.call(piece(0, {"a": 1}, "t", "f"))
    assert written.taken() == ["+0 tool_use t f", '0 {"a":1}']


@pytest.mark.parametrize("call", [{}, {"function": None}, {"function": []}, {"index": 0, "function": "f"}])
def test_what_is_no_call(call: dict[str, Any]) -> None:
    """A piece without a function says nothing."""
    written = Written()
    written.blocks.call(call)
    written.blocks.close_all()
    assert (written.taken(), written.blocks.called, written.blocks.fault) == ([], False, "")


def test_arguments_in_crumbs() -> None:
    """Arguments that come character by character are complete with their last bracket, escapes and all."""
    written = Written()
    for crumb in '{"a":"\\"}\\\\","b":{}}':
        written.blocks.call(piece(0, crumb, "t1", "f"))
    written.blocks.say("text", "x")
    assert written.taken()[-1] == "1 x"


@pytest.mark.parametrize("size", [1_000, WAITING_CHARS_MAX // 8])
def test_what_waits_is_bounded(size: int) -> None:
    """Text that waits counts against the bound, and text that has gone out does not."""
    written = Written()
    written.blocks.call(piece(0, "{", "a", "f"))
    for _ in range(2 * WAITING_CHARS_MAX // size):
        written.blocks.call(piece(0, " " * size))
    written.blocks.say("text", "x" * 100)
    assert not written.blocks.fault
    for _ in range(WAITING_CHARS_MAX // size + 1):
        written.blocks.call(piece(1, "x" * size, "b", "g"))
    assert written.blocks.fault


def test_the_count_of_waiting_blocks_is_bounded() -> None:
    """Blocks that wait count also if they hold next to nothing."""
    written, free = Written(), Written()
    written.blocks.call(piece(0, "{", "a", "f"))
    for number in range(WAITING_CHARS_MAX // message_blocks._WAITING_BLOCK_CHARS):
        for blocks in (written.blocks, free.blocks):
            blocks.say(("text", "thinking")[number % 2], "x")
    assert written.blocks.fault
    assert not free.blocks.fault


def test_the_count_of_calls_is_bounded() -> None:
    """An endless row of calls ends the answer."""
    written = Written()
    for index in range(CALLS_MAX):
        written.blocks.call(piece(index, "{}", f"t{index}", "f"))
        assert not written.blocks.fault
    written.blocks.call(piece(0, "{}", "another", "f"))
    assert written.blocks.fault


@given(st.data())
def test_any_interleaving_keeps_every_call(data: st.DataObject) -> None:
    """However the pieces of some calls are cut and interleaved, each block holds its own arguments, one at a time."""
    arguments = [
        json.dumps(data.draw(st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2))) for _ in range(3)
    ]
    pieces: list[list[str]] = []
    for whole in arguments:
        cut = data.draw(st.integers(0, len(whole)))
        pieces.append([part for part in (whole[:cut], whole[cut:]) if part])
    written = Written()
    order = [index for index, parts in enumerate(pieces) for _ in parts]
    begun: dict[int, int] = {}
    for index in data.draw(st.permutations(order)):
        head = index not in begun
        written.blocks.call(piece(index, pieces[index].pop(0), f"t{index}" if head else None, "f" if head else None))
        begun.setdefault(index, len(begun))
    written.blocks.close_all()
    assert not written.blocks.fault
    told: dict[str, str] = {}
    for line in written.taken():
        where, _, rest = line.partition(" ")
        if line.startswith("+"):
            current, number = rest.split()[1], where[1:]
            told[current] = ""
        elif not line.startswith("-"):
            assert where == number
            told[current] += rest
        else:
            assert where[1:] == number
    assert told == {f"t{index}": whole for index, whole in enumerate(arguments)}
