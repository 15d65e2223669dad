from __future__ import annotations

from router.config.report import FAULTS_MAX, Mark, Report, did_you_mean, dotted, shown


def test_faults_come_in_the_order_of_the_file() -> None:
    """Faults are told by line and column, whatever order they were found in."""
    report = Report("f")
    report.add(("b",), "second", Mark(2, 1))
    report.add(("a",), "first", Mark(1, 9))
    assert report.lines() == ("f:1:9: a: first", "f:2:1: b: second")


def test_a_fault_hides_what_follows_from_it() -> None:
    """Below a faulty setting nothing more is told; beside and above it, everything is."""
    report = Report("f")
    report.add(("a", "b"), "wrong")
    report.add(("a", "b", "c"), "follows")
    report.add(("a", "x"), "beside")
    report.add(("a",), "above")
    assert [line.split(": ", 1)[1] for line in report.lines()] == ["a.b: wrong", "a.x: beside", "a: above"]


def test_clean_means_neither_above_nor_below_is_faulty() -> None:
    """A check that needs a whole setting can ask whether all of it was read."""
    report = Report("f")
    report.add(("a", "b"), "wrong")
    assert not report.is_clean(("a",))
    assert not report.is_clean(("a", "b", "c"))
    assert report.is_clean(("a", "x"))
    assert report.is_lost(("a", "b", "c"))
    assert not report.is_lost(("a",))


def test_a_name_given_twice_does_not_hide_faults() -> None:
    """What is noted aside leaves the setting itself readable, and its faults told."""
    report = Report("f")
    report.add_aside(("a",), "given twice", Mark(3, 1))
    report.add(("a", "b"), "wrong", Mark(1, 4))
    assert report.lines() == ("f:1:4: a.b: wrong", "f:3:1: a: given twice")


def test_a_missing_setting_is_told_at_what_should_hold_it() -> None:
    """Without a place of its own a fault stands at the nearest setting above it."""
    report = Report("f")
    report.place(("a",), Mark(7, 3))
    report.add(("a", "b", "c"), "is missing")
    assert report.lines() == ("f:7:3: a.b.c: is missing",)


def test_the_number_of_faults_told_is_bounded() -> None:
    """A file of nothing but faults is told in a bounded number of lines, and the rest is counted."""
    report = Report("f")
    assert report.suggest("wieght", ["weight"]) == ", did you mean 'weight'?"
    for number in range(FAULTS_MAX + 5):
        report.add((str(number),), "wrong")
    assert len(report.lines()) == FAULTS_MAX + 1
    assert report.lines()[-1] == "f: and 5 more faults"
    assert report.suggest("wieght", ["weight"]) == ""


def test_paths_read_as_operators_write_them() -> None:
    """Indexes stand in brackets, and a name that would blur the path is quoted."""
    assert dotted(("models", "gpt-5.5", "pool", 0, "weight")) == "models.gpt-5.5.pool[0].weight"
    assert dotted(("models", "a b\n")) == "models.'a b\\n'"
    assert dotted(("x" * 5000,)) == "'" + "x" * 40 + "…'"


def test_long_values_are_cut() -> None:
    """A fault repeats no more than a few words of a wrong value."""
    assert shown("y" * 5000) == "'" + "y" * 40 + "…'"


def test_suggestions_are_near_or_absent() -> None:
    """A name is suggested for a slip of the finger, and none for something else."""
    assert did_you_mean("wieght", ["weight", "tier"]) == ", did you mean 'weight'?"
    assert did_you_mean("Weight", ["weight", "tier"]) == ", did you mean 'weight'?"
    assert did_you_mean("colour", ["weight", "tier"]) == ""
    assert did_you_mean("w" * 10_000, ["weight"]) == ""


def test_warnings_are_no_faults() -> None:
    """A warning has its place and says what it is; it is not counted as a fault and leaves its setting clean."""
    report = Report("f")
    report.place(("a",), Mark(2, 3))
    report.place(("b",), Mark(1, 1))
    report.warn(("a", "x"), "odd")
    report.warn(("b",), "odder")
    assert report.warnings() == ("f:1:1: warning: b: odder", "f:2:3: warning: a.x: odd")
    assert (report.count, report.lines(), report.is_clean(("a",))) == (0, (), True)


def test_the_rest_of_the_warnings_is_counted() -> None:
    """A file with very many is told so many of them, in its order, and how many there are more."""
    report = Report("f")
    for line in range(FAULTS_MAX + 5, 0, -1):
        report.place((str(line),), Mark(line, 1))
        report.warn((str(line),), "odd")
    told = report.warnings()
    assert (len(told), told[0], told[-1]) == (FAULTS_MAX + 1, "f:1:1: warning: 1: odd", "f: and 5 more warnings")


def test_what_a_preset_gives_stands_with_its_name() -> None:
    """Two settings at one place can be told from two that were both written."""
    report = Report("f")
    for name, mark in (("a", Mark(1, 1)), ("b", Mark(1, 1)), ("c", Mark(1, 2))):
        report.place((name,), mark)
    assert report.is_together(("a",), ("b",))
    assert not report.is_together(("a",), ("c",))
    assert not report.is_together(("x",), ("y",))
