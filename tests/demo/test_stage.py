"""What the demo shows: its configuration, its ports, and the rows of its table."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from router.config.loader import load
from router.demo import stage
from router.demo.behaviour import BEHAVIOURS
from router.demo.upstreams import DemoUpstream
from router.events import Attempt, ExchangeEnded, Outcome, Phase, Side, Usage

if TYPE_CHECKING:
    from pathlib import Path


def test_the_next_free_port_is_taken() -> None:
    """A port that is taken is passed over, so is the one that is kept for another listener, and 0 stays 0."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert stage.free_port(port) != port
    assert stage.free_port(port, besides=port) != port
    assert stage.free_port(0) == 0


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    """The YAML that the demo writes loads without an environment and puts flaky before its stand-ins."""
    upstreams = [DemoUpstream(name, behaviour) for name, behaviour in BEHAVIOURS.items()]
    for number, upstream in enumerate(upstreams, start=1):
        upstream.port = number
    path = tmp_path / "router.yaml"
    path.write_text(stage.configuration(8080, 9464, upstreams))
    models = load(path, environ={}).config.models
    assert {member.upstream: member.tier for member in models["demo-flaky"].pool} == {"flaky": 1, "fast": 2, "slow": 3}
    assert {sample.model for sample in stage.SAMPLES} <= set(models)


def ended(**changes: object) -> ExchangeEnded:
    facts: dict[str, object] = {
        "request_id": "req_1", "client_request_id": "", "endpoint": "chat", "key": "", "model": "demo",
        "upstream": "fast", "stream": True, "status": 200, "outcome": Outcome.OK,
        "reason": "", "ended_by": Side.UPSTREAM, "phase": Phase.ENDING, "complete": True,
        "attempts": (Attempt(upstream="fast", model="demo", cause="ok", duration_s=0.1),),
        "duration_s": 0.1, "overhead_s": 0.0, "ttft_s": 0.0123, "tpot_s": -1.0, "max_gap_s": -1.0,
        "usage": Usage(input=30, output=12), "exact": True, "reserved_tokens": 0, "charged_tokens": 42,
        "request_bytes": 1, "response_bytes": 1, "client_retry": False,
    }  # fmt: skip
    return ExchangeEnded(**(facts | changes))  # type: ignore[arg-type]  # the fields are named above


def test_a_row_says_what_happened() -> None:
    """A row has model, form, upstream, status, time to the first token and tokens; a failover also its path."""
    assert stage.row(ended()).split() == ["demo", "stream", "fast", "200", "12", "ms", "42"]
    failed = Attempt(upstream="flaky", model="demo", cause="http_5xx", duration_s=0.1)
    both = (failed, Attempt(upstream="fast", model="demo", cause="ok", duration_s=0.1))
    assert stage.row(ended(attempts=both)).endswith("failover: flaky (http_5xx) -> fast")
    refused = ended(attempts=(), upstream="", status=404, ttft_s=-1.0, usage=None, reason="model_not_found")
    assert stage.row(refused).split() == ["demo", "stream", "-", "404", "-", "-", "model_not_found"]


def test_the_demo_went_well_only_with_a_failover() -> None:
    """Every sample has to be answered completely, and one of them after another upstream had failed."""
    failed = Attempt(upstream="flaky", model="demo", cause="http_5xx", duration_s=0.1)
    plain = ended()
    saved = ended(attempts=(failed, *plain.attempts))
    some = [plain] * (len(stage.SAMPLES) - 1)
    assert stage.as_promised([*some, saved])
    assert not stage.as_promised([*some, plain])
    assert not stage.as_promised([*some[1:], saved])
    assert not stage.as_promised([*some[1:], saved, ended(complete=False)])
    assert not stage.as_promised([*some[1:], saved, ended(status=503)])
