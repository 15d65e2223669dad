"""One slice: put a load on a system for a moment, and say what it cost."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.bench import processes, traffic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.bench.systems import System

DRAIN_S = 15.0
"""Seconds after a window until an answer that is still missing counts as an error."""
SETTLE_S = 1.0
"""Seconds before memory is read: freed memory goes back, lazy imports are over."""
SPARE_EVENTS = 30
"""More than a stream can send in the window, so that it is still open when the window closes."""
HELD_STREAMS = 1000


class WrongAnswerError(Exception):
    """A system gave a wrong answer, or not all of them; its figures are worth nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A load: who asks what, and when it is measured."""

    ask: traffic.Ask
    clients: int
    warm_s: float
    """Seconds until the measured window opens: connections are made, pools are filled."""
    window_s: float
    """Seconds it stays open."""
    once: bool = False
    """One request per client, instead of one after another."""
    translated: bool = False
    """A system that can do so translates its stream; the others relay theirs."""
    turns: bool = False
    """The systems are loaded together and their streams take turns; otherwise one system after the other."""

    def lasting(self, window_s: float) -> Shape:
        """Return the same load with another window."""
        return replace(self, window_s=window_s)

    def asked(self, system: System, turn: int, turns: int) -> traffic.Ask:
        """Return what a system is asked in its turn, with streams so long that none ends inside the window."""
        if not self.ask.events:
            return self.ask
        paces = (self.warm_s + self.window_s) * 1000 / self.ask.pace_ms
        ask = replace(self.ask, events=int(paces / turns) + SPARE_EVENTS, turn=turn, turns=turns)
        if self.translated and system.translated_model:
            ask = replace(ask, name="translated", translated=True)
        return ask


_SMALL = traffic.Ask("small")
_STREAM = traffic.Ask("stream", events=1)
SHAPES = {
    "ns": Shape(ask=_SMALL, clients=64, warm_s=0.25, window_s=0.5),
    "p100": Shape(ask=_STREAM, clients=100, warm_s=0.4, window_s=2.88, once=True, turns=True),
    "ts": Shape(ask=_STREAM, clients=100, warm_s=0.4, window_s=2.88, once=True, turns=True, translated=True),
    "mb": Shape(ask=traffic.Ask("image", image=True), clients=4, warm_s=0.2, window_s=0.6),
    "c1": Shape(ask=_SMALL, clients=1, warm_s=0.1, window_s=0.4),
    "p500": Shape(ask=_STREAM, clients=500, warm_s=1.0, window_s=3.0, once=True),
}
UPLOADING = Shape(ask=_SMALL, clients=1, warm_s=0, window_s=20, once=True)
"""When an upload is measured; `traffic.Upload` says what is asked. The window closes with the answer."""
LINGER_S = 0.3
"""Seconds after an upload that count as its cost: the file it was kept in is removed."""
HOLD = traffic.Ask("hold", events=60, pace_ms=1000)
"""What the streams of `boot` carry: one event a second, far longer than they are held."""


@dataclass(slots=True, kw_only=True)
class Load:
    """The compiled load, and the files it sends and expects."""

    program: Path
    folder: Path
    cpu: int
    upstream: System

    def slices(self, systems: Sequence[System], shape: Shape) -> Iterator[tuple[System, dict[str, Any]]]:
        """Put one load on each system, and yield what it gave.

        Yields:
            A system and what `load.c` reports, with `cpu_s` (the system's CPU seconds inside the window), and `busy`,
            `load_busy`: the shares of the window in which the system, and load and upstream, were running.

        Raises:
            WrongAnswerError: An answer was missing, refused or not the upstream's.
        """
        for together in [systems] if shape.turns else [[system] for system in systems]:
            with contextlib.ExitStack() as stack:
                loads = []
                asked = [shape.asked(system, turn, len(together)) for turn, system in enumerate(together)]
                arguments = [
                    self._arguments(system, ask, shape.clients) for system, ask in zip(together, asked, strict=True)
                ]
                for system, own in zip(together, arguments, strict=True):
                    loads.append(self._start(system, shape, own))
                    stack.enter_context(loads[-1])
                    stack.callback(loads[-1].kill)  # which does nothing if it has ended by itself
                for system, load in zip(together, loads, strict=True):
                    yield system, self._result(system, shape, load)

    def _start(self, system: System, shape: Shape, arguments: list[str]) -> subprocess.Popen[bytes]:
        arguments = [*arguments, "-w", str(shape.warm_s)]
        arguments += ["-d", str(shape.window_s), "-l", str(shape.warm_s + shape.window_s + DRAIN_S)]
        arguments += ["-1"] if shape.once else []
        pids = [] if system is self.upstream else system.pids()
        assert self.upstream.process
        with processes.pinned(self.cpu):
            command = [*arguments, str(self.upstream.process.pid), *map(str, pids)]
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def _result(self, system: System, shape: Shape, load: subprocess.Popen[bytes]) -> dict[str, Any]:
        said, _ = load.communicate(timeout=shape.warm_s + shape.window_s + 2 * DRAIN_S)
        result: dict[str, Any] = json.loads(said)
        own, upstream, *rest = result["cpu_s"]
        result |= {"cpu_s": sum(rest), "busy": sum(rest) / result["seconds"]}
        result |= {"load_busy": (own + upstream) / result["seconds"]}
        self._check(system, result, result["events"] if shape.ask.events else result["requests"])
        if shape.once and result["finished"] != shape.clients:
            raise WrongAnswerError(f"{system.name}: {result['finished']} of {shape.clients} streams were complete")
        return result

    def hold(self, system: System, streams: int = HELD_STREAMS) -> dict[str, float]:
        """Return the resident memory in MB before, and the growth per 1000 streams that are open at once.

        Raises:
            WrongAnswerError: Not all of them could be opened.
        """
        time.sleep(SETTLE_S)
        idle_mb = system.resident_mb()
        arguments = [*self._arguments(system, HOLD, streams), "-k", "-l", str(DRAIN_S + 2 * SETTLE_S)]
        with (
            processes.pinned(self.cpu),
            subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as load,
        ):
            assert load.stdout
            first = load.stdout.readline()
            time.sleep(SETTLE_S if first == b"open\n" else 0)
            open_mb = system.resident_mb()
            rest, _ = load.communicate()
            result = json.loads(rest or first)
        self._check(system, result, result["opened"] == streams)
        return {"idle_mb": idle_mb, "open_mb": open_mb, "per_1000_mb": (open_mb - idle_mb) * 1000 / streams}

    def upload(self, system: System) -> dict[str, Any]:
        """Return what `load.c` reports of one upload, as `slices` does, and how much memory grew in it at most, in MB.

        Raises:
            WrongAnswerError: It was refused, or something else arrived than was sent.
        """
        time.sleep(SETTLE_S)
        arguments = self._upload_arguments(system)
        processes.forget_peaks(system.pids())
        before = system.resident_mb()
        with self._start(system, UPLOADING, arguments) as load:
            result = self._result(system, UPLOADING, load)
        return result | {"growth_mb": processes.peak_mb(system.pids()) - before}

    def _check(self, system: System, result: dict[str, Any], answered: float) -> None:
        if result["errors"]:
            raise WrongAnswerError(f"{system.name}: {result['errors']} errors, the first: {result['error']}")
        if not answered:
            raise WrongAnswerError(f"{system.name}: not everything was answered in time")

    def _arguments(self, system: System, ask: traffic.Ask, clients: int) -> list[str]:
        answer = self.folder / f"{ask.name}-{ask.events}.answer"
        model = system.translated_model if ask.translated else system.model
        if not answer.exists():
            answer.write_bytes(self._answer(system, ask, model))
        return self._command(system, ask.request(system.port, model), answer, clients)

    def _answer(self, system: System, ask: traffic.Ask, model: str) -> bytes:
        if not ask.translated:
            return ask.answer(self.upstream.port)
        try:
            return ask.translated_answer(system.port, model, self.upstream.port)
        except (LookupError, ValueError, OSError, http.client.HTTPException) as error:
            raise WrongAnswerError(f"{system.name}: {error!r}") from error

    def _upload_arguments(self, system: System) -> list[str]:
        upload = traffic.Upload()
        answer, filler = self.folder / "upload.answer", self.folder / "upload.filler"
        if not answer.exists():
            answer.write_bytes(upload.answer(self.upstream.port))
            filler.write_bytes(upload.block)
        before, behind = upload.request(system.port, system.model)
        filled = ["-f", str(filler), "-n", str(upload.times), "-i", str(len(before))]
        return [*self._command(system, before + behind, answer, 1), *filled, "-u", str(LINGER_S)]

    def _command(self, system: System, request: bytes, answer: Path, clients: int) -> list[str]:
        written = self.folder / f"{system.name}.request"
        written.write_bytes(request)
        files = ["-q", str(written), "-x", str(answer)]
        return [str(self.program), "-p", str(system.port), *files, "-c", str(clients)]
