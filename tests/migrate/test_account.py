from __future__ import annotations

from router.migrate.account import LABEL_MAX, Account, Fate, visible


def test_the_fate_of_a_section_is_that_of_everything_below_it() -> None:
    """What is told of a section holds for all its settings, unless one has a fate of its own."""
    account = Account("f")
    account.leave(("a",), 1, "no")
    account.carry(("b", 0, "c"))
    assert account.fate(("a", "x", 3)) is Fate.LEFT
    assert account.fate(("b", 0, "c")) is Fate.CARRIED
    assert account.fate(("b", 0)) is None


def test_leaving_has_the_last_word() -> None:
    """A section that is left behind takes with it what was said of its settings, and is told once."""
    account = Account("f")
    account.carry(("a", "x"))
    account.change(("a", "y"), 2, "other")
    account.leave(("a",), 1, "no")
    assert account.fate(("a", "x")) is account.fate(("a", "y")) is Fate.LEFT
    assert (account.lines(Fate.LEFT), account.lines(Fate.CHANGED)) == (["f:1: a: no"], [])
    account.carry(("a",))
    account.change(("a",), 1, "other")
    assert account.lines(Fate.LEFT) == ["f:1: a: no"]


def test_what_is_told_stays_told() -> None:
    """A setting that is carried differently is told so, whether it is called carried before or after."""
    account = Account("f")
    account.carry(("a",))
    account.change(("a",), 3, "other")
    account.carry(("a",))
    assert account.lines(Fate.CHANGED) == ["f:3: a: other"]
    assert [account.count(fate) for fate in Fate] == [0, 1, 0]


def test_what_nobody_looked_at_is_left_behind() -> None:
    """`settle` tells of every setting that has no fate, and of no other."""
    account = Account("f")
    account.carry(("a",))
    account.settle([(("a",), 1), (("b", 0), 2), (("b", 1), 2)], "unknown")
    assert account.lines(Fate.LEFT) == ["f:2: b[0]: unknown", "f:2: b[1]: unknown"]


def test_lines_come_in_the_order_of_the_file() -> None:
    """Remarks are sorted by line, whatever order they were made in."""
    account = Account("f")
    for line in (30, 4, 100):
        account.leave((f"s{line}",), line, "no")
    assert [text.split(":")[1] for text in account.lines(Fate.LEFT)] == ["4", "30", "100"]


def test_nothing_that_is_told_moves_a_cursor() -> None:
    """Names from the file and of the file reach a terminal as visible signs on one line, and cut."""
    account = Account("f\x1b[2J", lambda path: str(path[0]))
    account.leave(("a\nb\x07" + "x" * 500,), 1, "no\r")
    (line,) = account.lines(Fate.LEFT)
    assert line.isprintable()
    assert len(line) < LABEL_MAX + 40
    assert visible("a\tb\u202ec") == "a?b?c"
