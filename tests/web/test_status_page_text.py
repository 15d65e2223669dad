"""The status page as text."""

from __future__ import annotations

from router.web.status_page_text import NAME_MAX, render
from router.web.status_page_view import build
from tests.web.snapshots import busy, hostile, key, member, model, state, upstream


def shown(**changes: object) -> str:
    return render(build(state(**changes)))


def block(text: str, title: str) -> list[str]:
    return text.partition(title)[2].partition("\n\n")[0].splitlines()[1:]


def test_columns_stand_under_each_other() -> None:
    """Names to the left, figures to the right, whatever their length."""
    rows = [upstream("openai", in_flight=4), upstream("a-long-name", in_flight=12345, limit=None)]
    head, first, second = block(shown(upstreams=rows), "UPSTREAMS")
    assert first.startswith("openai       healthy")
    assert second.startswith("a-long-name  healthy")
    end = head.index("in flight") + len("in flight")
    assert first[:end].endswith(" 4/64")
    assert second[:end].endswith(" 12.3k")


def test_wide_characters_are_counted_as_they_show() -> None:
    """A name in Chinese takes two columns a character, and what follows still stands under its head."""
    head, first, second = block(shown(upstreams=[upstream("模型"), upstream("ascii")]), "UPSTREAMS")
    assert head.startswith("upstream  state")
    assert first.startswith("模型      healthy")
    assert second.startswith("ascii     healthy")


def test_the_most_important_is_first() -> None:
    """Alarms before everything, then the figures, then upstreams, those in trouble on top."""
    names = {"fine": "healthy", "cool": "cooling", "gone": "ejected", "maybe": "half_open", "good": "healthy"}
    text = shown(draining=True, upstreams=[upstream(name, state=state) for name, state in names.items()])
    assert text.startswith("! Draining")
    assert text.index("requests/s") < text.index("UPSTREAMS") < text.index("MODELS") < text.index("KEYS")
    rows = [line.split()[0] for line in block(text, "UPSTREAMS")[1:]]
    assert rows == ["gone", "maybe", "cool", "fine", "good"]


def test_members_have_a_line_each() -> None:
    """A pool is read from top to bottom, its parts under each other."""
    members = [member("openai"), member("a-longer-name", weight=0.5, share=0.25)]
    lines = block(shown(models=[model(members=members)]), "MODELS")
    assert lines[1].startswith("gpt    1  openai           3  75 %  eligible")
    assert lines[2] == "       1  a-longer-name  0.5  25 %  eligible"


def test_usual_names_fit_a_terminal() -> None:
    """With names of a usual length no line is longer than 140 characters."""
    assert max(map(len, render(build(busy(30))).splitlines())) <= 140


def test_a_long_name_is_cut() -> None:
    """One long name does not push all other columns out of sight."""
    text = shown(upstreams=[upstream("x" * 500)], keys=[key("y" * 500)])
    assert "x" * (NAME_MAX - 1) + "…" in text
    assert "x" * NAME_MAX not in text
    assert "y" * NAME_MAX not in text


def test_an_empty_table_says_why() -> None:
    """No rows, no head, but a word."""
    text = shown(keys=[])
    assert "KEYS  none configured: open to this machine alone\n" in text


def test_nothing_drives_a_terminal() -> None:
    """Every line break is one of ours, and no control character comes through."""
    text = render(build(hostile()))
    assert all(char.isprintable() or char == "\n" for char in text)
    assert len(text.splitlines()) == text.count("\n")
