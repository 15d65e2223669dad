from __future__ import annotations

import pytest

from router.config.origins import ORIGINS_MAX
from router.config.schema import Cors, Seconds
from tests.config.files import MODELS, UPSTREAMS, read, texts

GOOD = UPSTREAMS + MODELS
KEYS = f"keys: {{k: {{secret: {{sha256: {'a' * 64}}}}}}}\n"


def cors(*origins: str) -> str:
    return f"{GOOD}cors: {{origins: [{', '.join(repr(origin) for origin in origins)}]}}\n"


def test_no_page_is_let_in_unless_it_is_named() -> None:
    """Without the section there is none; with it a browser remembers for ten minutes, if nothing else is said."""
    assert read(GOOD).config.cors is None
    assert read(cors("https://app.example")).config.cors == Cors(origins=("https://app.example",), max_age=Seconds(600))


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example", "http://localhost:5173", "http://127.0.0.1:8000", "http://[::1]:3000",
        "https://*.example.org", "https://*.example.org:8443", "http://localhost", "https://xn--bcher-kva.example",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop", "capacitor://localhost", "app://obsidian.md",
        "http://app.example:443", "https://a_b.example",
    ],
)  # fmt: skip
def test_what_browsers_say_may_be_listed(origin: str) -> None:
    """Pages, those below a host, browsers' extensions and programs made of pages each have an origin."""
    assert read(cors(origin)).config.cors == Cors(origins=(origin,))


@pytest.mark.parametrize(
    "origin",
    [
        "app.example", "https://app.example/", "https://App.example", "HTTPS://app.example", "https://", "https://*",
        "https://*.", "https://a.*.example", "https://*app.example", "https://app.example:*", "https://app.example:0",
        "https://app.example:080", "https://user@app.example", "https://app.example?q", "https://app.example ",
        "https://bücher.example", "https://app..example", "https://.example", "//app.example", "file:///", "",
        "https://app.example\\nx", "https://" + "a" * 600, "**", "https://app.example,https://b.example",
    ],
)  # fmt: skip
def test_what_no_browser_says_is_a_fault(origin: str) -> None:
    """An origin that would never be met is told, with what one looks like."""
    (told,) = texts(cors(origin).replace("\\\\n", "\\n"))
    assert told.startswith("cors.origins[0]: expected an origin such as https://app.example or https://*.example.org, ")


@pytest.mark.parametrize(
    ("origins", "told"),
    [
        (("https://app.example:443",), "[0]: browsers leave out the default port; write https://app.example"),
        (("http://*.example:80",), "[0]: browsers leave out the default port; write http://*.example"),
        (("null",), "[0]: `null` is what every sandboxed page says; it names nobody"),
        (("https://a.example", "*"), "[1]: stands for every origin, so it stands alone"),
        (("*",), "[0]: without keys any page that is open on this machine could use it; give keys"),
        ((), ": names no origin; leave `cors` out to let no page in"),
        (tuple(f"https://a{n}.example" for n in range(ORIGINS_MAX + 1)), ": more than 1000 origins"),
    ],
)
def test_what_would_let_in_others_than_meant_is_a_fault(origins: tuple[str, ...], told: str) -> None:
    """Each is told by what is wrong with it."""
    assert texts(cors(*origins)) == [f"cors.origins{told}"]


def test_a_list_that_cannot_be_read_is_one_fault() -> None:
    """What stands in place of an origin that is none is not judged as one."""
    told = "expected text, found a number; text that looks like something else wants quotes"
    assert texts(f"{GOOD}cors: {{origins: [5, https://app.example/]}}") == [f"cors.origins[0]: {told}"]


def test_every_page_may_be_let_in_where_keys_are_needed() -> None:
    """`*` alone is everybody, who then still needs a key."""
    assert read(cors("*") + KEYS).config.cors == Cors(origins=("*",))
