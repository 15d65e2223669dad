"""The status page as a document."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser

from router.web import status_page_html
from router.web.status_page_view import build
from tests.web.snapshots import HOSTILE, busy, hostile, state, upstream


class Document(HTMLParser):
    """Elements, attributes and texts of a document, as a browser would find them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.within: dict[str, str] = {}
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self._open = tag
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self._open in ("style", "script"):
            self.within[self._open] = self.within.get(self._open, "") + data
        else:
            self.texts.append(data)

    def handle_endtag(self, _tag: str) -> None:
        self._open = ""


def rendered(**changes: object) -> str:
    return status_page_html.render(build(state(**changes)))


def test_the_policy_allows_what_stands_there_and_nothing_else() -> None:
    """The hashes are those of the only style and the only script; nothing is allowed from elsewhere, nor any other."""
    document = Document(rendered())
    assert (document.tags["style"], document.tags["script"]) == (1, 1)
    directives = dict(part.strip().split(" ", 1) for part in status_page_html.POLICY.split(";"))
    for directive, element in (("style-src", "style"), ("script-src", "script")):
        digest = hashlib.sha256(document.within[element].encode()).digest()
        assert directives[directive] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert directives["default-src"] == "'none'"
    assert directives["connect-src"] == "'self'"
    assert set(directives) == {
        "default-src", "style-src", "script-src", "connect-src", "base-uri", "form-action", "frame-ancestors",
    }  # fmt: skip
    assert "unsafe" not in status_page_html.POLICY


def test_nothing_comes_from_elsewhere() -> None:
    """No address in it but those of the admin listener itself, no style or handler in an attribute."""
    text = rendered()
    document = Document(text)
    assert not re.search(r"https?:|//[a-z]", text.replace("http-equiv", ""))
    for tag, name, value in document.attributes:
        assert name not in ("src", "style", "srcset", "action", "formaction"), (tag, name)
        assert not name.startswith("on"), (tag, name)
        if name == "href":
            assert value in status_page_html.LINKS


def test_hostile_names_are_text() -> None:
    """Markup in a name, a reason or a fault makes no element and no attribute, and is read as it is written."""
    document, usual = Document(status_page_html.render(build(hostile()))), Document(rendered())
    assert set(document.tags) <= set(usual.tags) | {"p"}
    assert document.tags["script"] == 1
    assert not [it for it in document.attributes if it[1].startswith("on") or "hit" in it[2]]
    shown = HOSTILE.replace("\u202e", "?").replace("\x1b", "?").replace("\n", "?").replace("\u200b", "?")
    assert sum(shown in text for text in document.texts) >= 10


def test_it_reads_without_its_script() -> None:
    """Tables with heads and rows, the figures and the curves stand in the document, which asks to be loaded again."""
    text = rendered(draining=True)
    document = Document(text)
    assert document.tags["table"] == 4
    assert document.tags["svg"] == 4
    for shown in ("openai", "healthy", "gpt", "team", "consecutive, for 10 s", "10.6", "397 ms", "4/64"):
        assert shown in document.texts, shown
    assert any(text.startswith("Draining") for text in document.texts)
    assert f'<noscript><meta http-equiv="refresh" content="{status_page_html.REFRESH_S}"></noscript>' in text


def test_a_reader_of_the_screen_finds_its_way() -> None:
    """Heads of columns and rows are heads, curves and tables have names, and a state is a word beside its colour."""
    document = Document(rendered(upstreams=[upstream(state="ejected")]))
    scopes = Counter(value for tag, name, value in document.attributes if (tag, name) == ("th", "scope"))
    assert scopes["col"] > 30
    assert scopes["row"] == 4
    labels = [value for tag, name, value in document.attributes if name == "aria-label"]
    assert len(labels) == 8
    assert ("html", "lang", "en") in document.attributes
    assert "ejected" in document.texts


def test_it_is_small() -> None:
    """A daemon of the demo's size, with every event there can be: no more than 30 KB, and a row costs little."""
    assert len(status_page_html.render(build(busy(4))).encode()) <= 30 * 1024
    more = len(status_page_html.render(build(busy(104)))) - len(status_page_html.render(build(busy(4))))
    assert more / 100 < 2000


def test_colours_can_be_read() -> None:
    """Every colour of text stands out from both grounds by 4.5 to 1, in light and in dark (WCAG AA)."""
    style = (status_page_html._STYLE).partition("*{")[0]
    light, dark = style.split("@media")
    for scheme in (light, dark):
        colours = dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})\b", scheme))
        for ink in ("ink", "dim", "ok", "warn", "bad", "cool", "off"):
            for ground in ("bg", "panel", "hover"):
                assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
