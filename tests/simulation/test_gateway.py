from __future__ import annotations

from router.config.schema import Count, Member, Pace, Protocol, Seconds, Upstream
from router.errors import Kind as Reason
from router.simulation.gateway import PaceState
from router.simulation.scenario import Change, Traffic

from .scenes import config, equals, play, scenario


def test_turns_at_a_paced_upstream() -> None:
    """So many at once as its rate names, the others in their turn, and none that would wait for too long."""
    pace = PaceState(Pace(requests=Count(2), per=Seconds(1), wait=Seconds(1)))
    assert [pace.take(5.0) for _ in range(5)] == [0.0, 0.0, 0.5, 1.0, None]
    assert pace.take(5.5) == 1.0
    assert pace.take(60.0) == 0.0


def test_a_paced_upstream_gets_no_more_than_its_pace() -> None:
    """What comes too late for its turn goes elsewhere, and is told as a limit if there is no elsewhere."""
    paced = {"u0": Upstream(base_url="http://u0.test/v1", pace=Pace(requests=Count(5), wait=Seconds(0.3)))}
    alone = play(config(Member(upstream="u0"), upstreams=paced), scenario(rate=20))
    assert set(alone.tally.outcomes) == {"ok", Reason.UPSTREAM_RATE_LIMITED}
    assert 280 < alone.tally.answered < 312
    both = play(config(Member(upstream="u0"), Member(upstream="u1"), upstreams=paced), scenario(rate=20))
    assert both.tally.answered == both.tally.calls


def test_a_reload_moves_the_traffic() -> None:
    """Weight 0 drains a member from that moment on; nothing in flight is lost."""
    drain = Change(at=Seconds(30), model="m", weights={"u0": 0.0})
    result = play(equals(2), scenario(reloads=(drain,), rate=50))
    assert result.tally.answered == result.tally.calls
    attempts = result.tally.upstreams["u0"].attempts
    assert sum(attempts[:30]) > 300
    assert sum(attempts[32:]) == 0


def test_a_client_that_no_member_speaks_with_is_told() -> None:
    """As the daemon does: a model that cannot serve this endpoint is the client's fault, and nobody is asked."""
    traffic = (Traffic(model="m", rate=5, protocol=Protocol.ANTHROPIC),)
    result = play(equals(2), scenario(traffic=traffic))
    assert result.tally.outcomes == {Reason.UNSUPPORTED_ENDPOINT: result.tally.calls}
