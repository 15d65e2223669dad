"""The model in the path: filled in where it is meant, and never a way to another place."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.path_template import PathTemplate, quoted

AZURE = PathTemplate("/deployments/{model}{path}", ("chat", "audio"))


def test_the_model_stands_in_the_path() -> None:
    """What follows the base URL is made of the template, the model and the client's path."""
    assert AZURE.fill(b"/chat/completions", "gpt-4o") == b"/deployments/gpt-4o/chat/completions"
    assert AZURE.fill(b"/audio/speech", "tts") == b"/deployments/tts/audio/speech"
    assert PathTemplate("/{model}{path}/{model}").fill(b"/rerank", "m") == b"/m/rerank/m"
    assert PathTemplate("/serving/{model}/invocations").fill(b"/chat/completions", "m") == b"/serving/m/invocations"


@pytest.mark.parametrize("rest", [b"/responses", b"/files/1", b"/chatkit/sessions", b"/v1/chat", b"/", b""])
def test_other_endpoints_are_where_they_always_are(rest: bytes) -> None:
    """Only paths whose first step is named take the template."""
    assert AZURE.fill(rest, "m") == rest


def test_without_a_model_there_is_nothing_to_fill_in() -> None:
    """A request about no model goes to the client's path."""
    assert PathTemplate("/deployments/{model}{path}").fill(b"/files", "") == b"/files"


def test_the_path_passes_byte_for_byte() -> None:
    """What the client's path holds is not encoded again, and is no template itself."""
    assert PathTemplate("/{model}{path}").fill(b"/a%2Fb/{model}\xff", "m") == b"/m/a%2Fb/{model}\xff"
    assert PathTemplate("/{model}{path}").fill(b"/x", "{path}") == b"/%7Bpath%7D/x"


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("gpt-4.1_mini~x", b"gpt-4.1_mini~x"),
        ("org/name:tag", b"org%2Fname%3Atag"),
        ("a b?c#d%e", b"a%20b%3Fc%23d%25e"),
        ("mod\u00e8le", b"mod%C3%A8le"),
        ("\ud800", b"%3F"),
        ("a..b", b"a..b"),
        ("..a", b"..a"),
        (".", b"%252E"),
        ("..", b"%252E%252E"),
        ("a/../b", b"a%252F%252E%252E%252Fb"),
        ("a\\..", b"a%255C%252E%252E"),
    ],
)
def test_a_name_is_one_step(name: str, step: bytes) -> None:
    """Everything that means something in a URL is encoded; a name that leads up is encoded twice."""
    assert quoted(name) == step


@given(st.text(st.characters(codec="utf-8"), min_size=1) | st.text("./\\%2eEfF", min_size=1))
def test_no_name_leads_elsewhere(name: str) -> None:
    """Whatever a client asks for, the path has as many steps as the template, and none of them leads up.

    Neither as it is sent, nor for a server that decodes it before it looks.
    """
    filled = AZURE.fill(b"/chat/completions", name).decode("ascii")
    assert re.fullmatch(r"/deployments/(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+/chat/completions", filled)
    steps = [step for spelled in (filled, unquote(filled)) for step in re.split(r"[/\\]", spelled)]
    assert not {".", ".."} & set(steps)
