"""How the embedded upstreams behave by default, and which changes to that are possible."""

from __future__ import annotations

import msgspec
import pytest

from router.demo.behaviour import BEHAVIOURS, Behaviour, changed


def test_the_upstreams_are_what_they_are_called() -> None:
    """By default fast answers sooner than slow, and flaky alone fails."""
    fast, slow, flaky = (BEHAVIOURS[name] for name in ("fast", "slow", "flaky"))
    assert fast.latency_s < slow.latency_s
    for behaviour, fails in ((fast, False), (slow, False), (flaky, True)):
        faults = (behaviour.errors, behaviour.cut_every, behaviour.stall_every)
        assert any(faults) is fails
    assert not any(behaviour.down for behaviour in (fast, slow, flaky))


def test_a_change_keeps_what_it_does_not_name() -> None:
    """`changed` returns a copy with the named values, whose keys may be text as in JSON."""
    before = Behaviour(tokens=4)
    assert changed(before, {"errors": {"500": 3}}) == Behaviour(tokens=4, errors={500: 3})
    assert before == Behaviour(tokens=4)


def test_behaviour_out_of_bounds_is_refused() -> None:
    """A change that cannot be is an error, not a surprise later."""
    for changes in ({"latency_s": -1}, {"errors": {200: 1}}, {"errors": {500: 0}}, {"unknown": 1}):
        with pytest.raises(msgspec.ValidationError):
            changed(Behaviour(), changes)
