from __future__ import annotations

import io

import pytest

from router.commands.terminal import GREEN, has_colour, of_change, painted, visible


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


def test_what_a_terminal_would_obey_is_not_sent() -> None:
    """Sequences that clear, move or recolour, and characters that hide or turn text, become question marks."""
    assert visible("a\x1b[2Jb\x9bc\u202ed\u200be\nf\tg") == "a?[2Jb?c?d?e?f?g"
    assert visible("modèle 模型 → ok") == "modèle 模型 → ok"


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or pipe gets none, nor who has said so by `NO_COLOR` or has a terminal without any."""
    assert painted("x", GREEN, Terminal()) == "\x1b[32mx\x1b[0m"
    assert painted("x", GREEN, io.StringIO()) == "x"
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colour(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert has_colour(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colour(Terminal())


def test_a_change_is_visible() -> None:
    """What came, went and changed has a colour each, and the values in it do nothing to the terminal."""
    assert [of_change(f"{sign} \x1b[2J", Terminal())[:5] for sign in "+-~"] == ["\x1b[32m", "\x1b[31m", "\x1b[33m"]
    assert of_change("+ \x1b[2J", io.StringIO()) == "+ ?[2J"
