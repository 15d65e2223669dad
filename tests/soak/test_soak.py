"""The soak for a minute, as `make soak` runs it for ten; and that what judges it finds what it is for."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import chat
from tests.harness.client import Answer, Ending
from tests.soak import reloads, talk
from tests.soak.books import Books, Seen, Trial
from tests.soak.clients import SECRETS, STREAMING, Slot, Unexplained
from tests.soak.plan import Fault, Plan, Weather
from tests.soak.slopes import MIB, slope
from tests.soak.talk import Endpoint, Shape

ROOT = Path(__file__).parents[2]
SECONDS = 60
PATIENCE_S = 400.0
"""For the minute, and for everything to come to rest on a machine that is busy with other tests."""


async def test_a_minute_of_everything(tmp_path: Path) -> None:
    """200 streams, every fault, rude clients, a reload every 5 s: nothing is unexplained, nothing grows or is left."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.soak", "--seconds", str(SECONDS), "--out", str(tmp_path)),
        cwd=ROOT,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    text = printed.decode()
    assert process.returncode == 0, text
    assert "FAILED" not in text
    curves = tmp_path / f"soak-{SECONDS}s-seed1.png"
    assert curves.read_bytes().startswith(b"\x89PNG")
    assert len(curves.with_suffix(".csv").read_text().splitlines()) > SECONDS / 2


# slopes


def memory(seconds: int, leak_bytes_per_s: float) -> list[float]:
    """A process that fills its heap at first, and then breathes."""
    rng = random.Random(1)
    warm = [50 + 15 * min(1.0, second / (seconds / 5)) for second in range(seconds)]
    return [each * MIB + second * leak_bytes_per_s + rng.random() * MIB for second, each in enumerate(warm)]


@pytest.mark.parametrize("seconds", [60, 600])
def test_memory_that_breathes_is_no_leak(seconds: int) -> None:
    """A warm-up and noise of a MiB are no slope."""
    assert slope("memory_bytes", memory(seconds, 0)).holds


@pytest.mark.parametrize("seconds", [60, 600])
def test_a_leak_is_a_slope(seconds: int) -> None:
    """One KiB kept for each of 250 requests a second is found, in a minute as in ten."""
    assert not slope("memory_bytes", memory(seconds, 250 * 1024)).holds


def test_a_peak_is_no_slope() -> None:
    """Descriptors that go up for some seconds and come down again are no leak; some more every second are."""
    peak = [500.0 + 300 * (40 < second < 48) for second in range(60)]
    assert slope("descriptors_used", peak).holds
    assert not slope("descriptors_used", [500.0 + 5 * second for second in range(60)]).holds


# the plan and the edits


def test_a_seed_is_a_plan() -> None:
    """The same seed plays the same faults in the same weather; another one others; in time every kind comes."""
    weathers = [Weather.CALM, Weather.ROUGH]

    def faults(seed: int) -> list[Fault | None]:
        plan = Plan(seed)
        return [plan.fault("first", number, weathers[number % 2], stream=number % 3 > 0) for number in range(3000)]

    assert faults(1) == faults(1) != faults(2)
    assert {plan for plan in faults(1) if plan} == set(Fault) - {Fault.REFUSED, Fault.KILLED}
    seen = {Plan(1).weather(name, second) for name in reloads.FAULTY for second in range(600)}
    assert seen == set(Weather)


def test_edits_differ_and_leave_the_good_ones() -> None:
    """Every valid edit is another file that keeps its addresses, its lasting keys, and an upstream that never fails."""
    ports = dict.fromkeys(reloads.NAMES, 1)
    edits = [reloads.edit(number, 1, ports) for number in range(40)]
    texts = [text for text, valid in edits if valid]
    assert len(set(texts)) == len(texts) == 31
    for text in texts:
        settings = yaml.safe_load(text)
        assert {"team", "small"} <= set(settings["keys"]) <= set(SECRETS)
        for model in settings["models"].values():
            assert [member["tier"] for member in model["pool"] if member["upstream"].startswith(reloads.GOOD)] == [2]
    assert {reloads.EXTRA in text for text in texts} == {True, False}


# the books


def trial(number: int = 1, *, stream: bool = True, endpoint: Endpoint = Endpoint.CHAT) -> Trial:
    return Trial(endpoint, Shape(number, 5, 10, 40), "team", stream)


def record(of: Trial, **more: Any) -> dict[str, Any]:
    """The line of a request that went well."""
    used = {"input": of.shape.prompt, "output": of.shape.output}
    line: dict[str, Any] = {
        "event": "exchange",
        "request_id": "req_1",
        "client_request_id": of.shape.name,
        "key": "team",
    }
    line |= {"outcome": "ok", "complete": True, "exact": True, "upstream": "first", "overhead_s": 0.0}
    return line | {"tokens": used, "charged": sum(used.values())} | more


def booked(of: Trial, *lines: dict[str, Any], seen: Seen = Seen.WHOLE) -> Books:
    """What the books say of one request, answered whole by `first`."""
    books = Books()
    books.begin(of)
    books.played(of.shape.name, "first", None)
    books.finishes(of.shape.name, "first", talk.tokens(of.endpoint, of.shape))
    books.saw(of, seen, "req_1")
    for line in lines:
        books.line(line)
    books.close()
    return books


def test_books_that_balance() -> None:
    """A request that its client, its upstream and its record tell alike is closed and forgotten."""
    books = booked(trial(), record(trial()))
    assert (books.problems, books.open, books.records) == ([], {}, 1)
    assert books.charged == books.reported == {"team": talk.tokens(Endpoint.CHAT, trial().shape)}


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [record(trial()), record(trial())],
        [record(trial()), record(trial(2))],
        [record(trial(), request_id="req_2")],
        [record(trial(), key="small")],
        [record(trial(), charged=1)],
        [record(trial(), upstream="second")],
        [record(trial(), outcome="upstream_error")],
        [record(trial(), exact=False)],
    ],
    ids=["none", "twice", "unknown", "id", "key", "charged", "upstream", "outcome", "inexact"],
)
def test_books_that_do_not(lines: list[dict[str, Any]]) -> None:
    """A record that is missing, is there twice, or differs in anything is told."""
    assert booked(trial(), *lines).problem_count == 1


def test_what_nothing_explains_is_told() -> None:
    """What a client could not explain is told once, with its record or without."""
    for lines in ([record(trial())], []):
        asked = trial()
        asked.wrong = "502"
        assert booked(asked, *lines, seen=Seen.WRONG).problem_count == 1


def test_faults_of_our_own_are_kept() -> None:
    """What the log tells beside requests is counted: reloads, and faults in the router's own code."""
    books = Books()
    books.line({"event": "reload", "level": "error", "result": "rejected"})
    books.line({"event": "notice", "level": "error", "message": "a request failed in our own code", "detail": "x"})
    books.line({"event": "notice", "level": "info", "message": "stopping"})
    assert (books.reloads, books.notices) == (["rejected"], ["a request failed in our own code: x"])


# the clients' judgement


def judged(of: Trial, status: int, *pieces: bytes, ending: Ending = Ending.CLEAN) -> Seen:
    slot = Slot(("127.0.0.1", 1), Books(), STREAMING, random.Random(1))
    return slot._judge(of, Answer(status, [], b"", [], list(pieces), ending))


def events(of: Trial) -> list[bytes]:
    return talk.events(of.endpoint, of.shape, usage=of.shape.asks_usage)


BROKEN_OFF = chat.event({"error": {"message": "It broke.", "code": 502}})


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.MESSAGES])
def test_what_may_come(endpoint: Endpoint) -> None:
    """The whole answer, with heartbeats between; its beginning and an error, or all that matters, if it broke off."""
    asked = trial(endpoint=endpoint)
    right, all_said = events(asked), talk.all_said(endpoint, asked.shape)
    assert judged(asked, 200, *right[:2], chat.HEARTBEAT, talk.PING, *right[2:]) is Seen.WHOLE
    with pytest.raises(Unexplained):
        judged(asked, 200, *all_said)
    asked.played["first"] = Fault.KILLED
    assert judged(asked, 200, *all_said) is Seen.WHOLE
    asked.played["first"] = Fault.CUT_INSIDE
    assert judged(asked, 200, *right[:4], BROKEN_OFF, ending=Ending.ABORTED) is Seen.BROKEN


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.MESSAGES])
def test_what_may_not(endpoint: Endpoint) -> None:
    """Another's words, a hole, an end without a word, an error before content or for no reason: nothing explains it."""
    asked = trial(endpoint=endpoint)
    right, other = events(asked), events(trial(3, endpoint=endpoint))
    for pieces, ending in (
        ([*right[:3], other[3], *right[4:]], Ending.CLEAN),
        ([*right[:3], *right[4:]], Ending.CLEAN),
        (right[:4], Ending.CLEAN),
        (right, Ending.ABORTED),
        ([BROKEN_OFF], Ending.ABORTED),
    ):
        for fault in (None, Fault.CUT_INSIDE):
            asked.played["first"] = fault
            with pytest.raises(Unexplained):
                judged(asked, 200, *pieces, ending=ending)
    asked.played["first"] = Fault.BROKEN
    with pytest.raises(Unexplained):
        judged(asked, 200, *right[:4], BROKEN_OFF, ending=Ending.ABORTED)
    with pytest.raises(Unexplained):
        judged(asked, 502, chat.error_body())
