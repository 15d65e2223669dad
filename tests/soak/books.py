"""What clients saw, what upstreams did, what the router recorded: compared for each request, then forgotten."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tests.soak import talk
from tests.soak.plan import BREAKS, Fault

if TYPE_CHECKING:
    from tests.soak.talk import Endpoint, Shape

PROBLEMS_MAX = 50
"""That are kept word for word; more are only counted."""


class Seen(StrEnum):
    """What a client got."""

    WHOLE = "whole answers"
    BROKEN = "streams broken off"
    LIMITED = "refused for a limit of the key"
    UNKNOWN = "refused for a key that was removed"
    LEFT = "clients that left"
    HALF = "requests sent by half"
    NONSENSE = "nonsense refused"
    WRONG = "answers that nothing explains"


@dataclass(slots=True)
class Trial:
    """One request, from the moment a client thinks of it until its client and its record have told about it."""

    endpoint: Endpoint
    shape: Shape
    key: str
    """As configured."""
    stream: bool
    played: dict[str, Fault | None] = field(default_factory=dict)
    """What each upstream did to it."""
    reported: dict[str, int] = field(default_factory=dict)
    """Tokens by each upstream that answered it to the end."""
    seen: Seen | None = None
    request_id: str = ""
    """As the client was told it; empty if no answer began."""
    wrong: str = ""
    """What nothing explains."""
    record: dict[str, Any] | None = None

    @property
    def broken(self) -> bool:
        """An upstream broke off inside the content."""
        return any(fault in BREAKS for fault in self.played.values())

    def __str__(self) -> str:
        played = {name: fault and fault.name for name, fault in self.played.items()}
        return f"{self.shape.name} {self.endpoint.name} stream={self.stream} key={self.key} played={played}"


class Books:
    """All requests that are not closed, and the sums of those that are."""

    def __init__(self) -> None:
        self.open: dict[str, Trial] = {}
        self.problems: list[str] = []
        self.problem_count = 0
        self.seen: Counter[str] = Counter()
        self.faults: Counter[Fault] = Counter()
        self.records = 0
        self.anonymous_records = 0
        """Of requests without a readable name."""
        self.charged: Counter[str] = Counter()
        """Tokens by key, of whole answers, as the router charged them."""
        self.reported: Counter[str] = Counter()
        """The same, as the upstreams reported them."""
        self.tokens: Counter[str] = Counter()
        """Tokens by upstream, of all records that name one."""
        self.errors = 0
        """Records of requests that ended in an error."""
        self.overheads_s: list[float] = []
        """Of the records since somebody last took them."""
        self.notices: list[str] = []
        """Of level error: faults in the router's own code."""
        self.reloads: list[str] = []
        """What each came to."""
        self._number = 0

    def next_number(self) -> int:
        """Of the next request."""
        self._number += 1
        return self._number

    def begin(self, trial: Trial) -> None:
        """A client is about to send this."""
        self.open[trial.shape.name] = trial

    def problem(self, what: str) -> None:
        """Nothing explains this."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(what)

    # the upstreams' side

    def played(self, name: str, server: str, fault: Fault | None) -> None:
        """An upstream received a request and does this to it."""
        if fault is not None:
            self.faults[fault] += 1
        if (trial := self.open.get(name)) is not None:
            trial.played[server] = fault

    def finishes(self, name: str, server: str, tokens: int) -> None:
        """An upstream ends its answer with this usage."""
        if (trial := self.open.get(name)) is not None:
            trial.reported[server] = tokens

    # the client's side

    def saw(self, trial: Trial, seen: Seen, request_id: str) -> None:
        """The client is through with it."""
        trial.seen, trial.request_id = seen, request_id
        self.seen[seen] += 1
        self._close(trial)

    # the router's side

    def line(self, line: dict[str, Any]) -> None:
        """Take a line of the log."""
        match line["event"]:
            case "exchange":
                self._recorded(line)
            case "reload":
                self.reloads.append(line["result"])
            case "notice" if line["level"] == "error":
                self.notices.append(f"{line['message']}: {line.get('detail', '')}")

    def _recorded(self, record: dict[str, Any]) -> None:
        self.records += 1
        self.errors += record["outcome"] not in ("ok", "client_gone")
        self.overheads_s.append(record["overhead_s"])
        if "upstream" in record:
            self.tokens[record["upstream"]] += _used(record)
        name = record.get("client_request_id", "")
        if not name:
            self.anonymous_records += 1
            return
        trial = self.open.get(name)
        if trial is None or trial.record is not None:
            self.problem(f"a second record, or one of a request that nobody sent: {record}")
            return
        trial.record = record
        self._close(trial)

    # the comparison

    def _close(self, trial: Trial) -> None:
        if trial.seen is None or trial.record is None:
            return
        del self.open[trial.shape.name]
        faults = [trial.wrong] if trial.seen is Seen.WRONG else _differences(trial, trial.record)
        if faults:
            self.problem(f"{'; '.join(faults)}: {trial}: {trial.record}")
        if trial.record.get("exact"):
            server = _server(trial.record)
            self.charged[trial.key] += trial.record.get("charged", 0)
            self.reported[trial.key] += trial.reported.get(server, 0)

    def close(self) -> None:
        """The log is at its end: whoever saw the head of an answer has a record."""
        for trial in self.open.values():
            if trial.seen is None:
                self.problem(f"never ended: {trial}")
            elif trial.seen is Seen.WRONG:
                self.problem(f"{trial.wrong}, and no record: {trial}")
            elif trial.request_id:
                self.problem(f"no record of {trial.request_id}: {trial}")


def _used(record: dict[str, Any]) -> int:
    """Tokens, as far as they were reported; the upstreams here use no other kinds."""
    usage = record.get("tokens") or {"input": 0, "output": 0}
    return int(usage["input"] + usage["output"])


def _server(record: dict[str, Any]) -> str:
    """The upstream that answered; each is configured once for each protocol."""
    name = record.get("upstream", "")
    assert isinstance(name, str)
    return name.partition("-")[0]


_OUTCOMES = {
    Seen.WHOLE: ("ok",),
    Seen.BROKEN: ("upstream_error", "timeout"),
    Seen.LIMITED: ("rate_limited",),
    Seen.UNKNOWN: ("client_error",),
    Seen.LEFT: ("ok", "client_gone", "upstream_error", "timeout"),
    Seen.HALF: ("client_gone",),
    Seen.NONSENSE: ("client_error",),
}
"""What a record may say of what a client saw; one that left does not see what came after."""


_FREE = (Seen.LIMITED, Seen.UNKNOWN, Seen.HALF, Seen.NONSENSE)
"""Nothing was sent to any upstream."""


def _differences(trial: Trial, record: dict[str, Any]) -> list[str]:
    """What does not agree between the client, the upstreams and the record."""
    assert trial.seen is not None
    found = []
    if trial.request_id not in ("", record["request_id"]):
        found.append(f"the client was told {trial.request_id}")
    if record.get("key", "") != ("" if trial.seen is Seen.UNKNOWN else trial.key):
        found.append("another key")
    if record["outcome"] not in _OUTCOMES[trial.seen]:
        found.append(f"the client saw {trial.seen}")
    charged = record.get("charged", 0)
    if record.get("exact"):
        reported = trial.reported.get(_server(record))
        if not charged == reported == _used(record) == talk.tokens(trial.endpoint, trial.shape):
            found.append(f"charged {charged}, reported {reported}")
    elif trial.seen is Seen.WHOLE and not trial.broken:  # killed between the last words and the usage
        found.append("usage is not exact")
    if trial.seen in _FREE and charged:
        found.append(f"charged {charged} for nothing")
    if record["complete"] and trial.seen is Seen.BROKEN:
        found.append("a broken stream is complete")
    return found
