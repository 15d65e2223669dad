from __future__ import annotations

from router.simulation.engine import START_S, Engine


def test_events_happen_in_the_order_of_their_time() -> None:
    """Whatever is planned first, the earlier comes first; what is due at the same moment, as it was planned."""
    engine, happened = Engine(), []
    for time, name in ((3.0, "c"), (1.0, "a"), (3.0, "d"), (2.0, "b")):
        engine.at(START_S + time, lambda name: happened.append((engine.now - START_S, name)), name)
    engine.run()
    assert happened == [(1.0, "a"), (2.0, "b"), (3.0, "c"), (3.0, "d")]
    assert engine.happened == 4


def test_an_event_may_plan_others_and_the_past_is_now() -> None:
    """The clock never goes back, and a run ends when nothing is planned any more."""
    engine, happened = Engine(), []

    def plan(ahead: int) -> None:
        happened.append(engine.now - START_S)
        if ahead:
            engine.at(engine.now + (1.0 if ahead == 2 else -5.0), plan, ahead - 1)

    engine.at(START_S + 1.0, plan, 2)
    engine.run()
    assert happened == [1.0, 2.0, 2.0]
