"""`llm-router key new`, typed: the key is good for what the stanza says, and stands nowhere else."""

from __future__ import annotations

import hashlib
import json
import string
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.commands.key import KEY_BYTES, PREFIX, Stanza, quoted
from tests.config.files import MODELS, UPSTREAMS, read
from tests.harness.program import command

if TYPE_CHECKING:
    from pathlib import Path

ZEROS = "0" * 64
URL_SAFE = set(string.ascii_letters + string.digits + "-_")


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def test_a_new_key_and_its_stanza() -> None:
    """The key alone is on standard output, so that `KEY=$(…)` keeps it; the stanza with its hash goes beside it."""
    status, key, told = await command("key", "new", "team-search")
    assert status == 0
    assert key.count("\n") == 1
    key = key.rstrip("\n")
    assert key.startswith(PREFIX)
    assert set(key.removeprefix(PREFIX)) <= URL_SAFE
    assert len(key.removeprefix(PREFIX)) >= KEY_BYTES * 8 / 6
    assert key not in told
    loaded = read(UPSTREAMS + MODELS + told[told.index("keys:") :])
    assert loaded.config.keys["team-search"].secret.sha256 == sha256(key)
    assert (await command("key", "new", "team-search"))[1].rstrip("\n") != key, "each is another"


async def test_what_is_said_of_a_key() -> None:
    """Models and limits that are given stand in the stanza in effect; without any there are samples, and none is."""
    _, _, told = await command(
        "key", "new", "a", "--model", "gpt-*", "--model", "m", "--requests-per-minute", "60",
        "--tokens-per-minute", "1.5M", "--concurrency", "5",
    )  # fmt: skip
    key = read(UPSTREAMS + MODELS + told[told.index("keys:") :]).config.keys["a"]
    assert key.models == ("gpt-*", "m")
    assert (key.limits.requests_per_minute, key.limits.tokens_per_minute, key.limits.concurrency) == (60, 1_500_000, 5)
    sample = str(Stanza("a", ZEROS))
    assert read(UPSTREAMS + MODELS + sample).config.keys["a"].limits.concurrency is None
    assert read(UPSTREAMS + MODELS + sample.replace("#", "")).config.keys["a"].limits.concurrency == 50


async def test_a_key_in_a_file_of_its_own(tmp_path: Path) -> None:
    """With `--key-file` only the stanza is printed; the file is its owner's alone, and none is ever overwritten."""
    path = tmp_path / "team.key"
    status, stanza, errors = await command("key", "new", "team", "--key-file", path)
    assert (status, errors) == (0, "")
    key = path.read_text().rstrip("\n")
    assert key not in stanza
    assert read(UPSTREAMS + MODELS + stanza).config.keys["team"].secret.sha256 == sha256(key)
    assert path.stat().st_mode & 0o777 == 0o600
    status, stanza, errors = await command("key", "new", "team", "--key-file", path)
    assert (status, stanza) == (1, "")
    assert "File exists" in errors
    assert path.read_text().rstrip("\n") == key


async def test_a_key_for_programs(tmp_path: Path) -> None:
    """`--json` prints name, key and hash; if the key goes to a file it is not in it."""
    _, text, errors = await command("key", "new", "é: 1", "--json")
    shown = json.loads(text)
    assert errors == ""
    assert shown == {"name": "é: 1", "key": shown["key"], "sha256": sha256(shown["key"])}
    _, text, _ = await command("key", "new", "a", "--json", "--key-file", tmp_path / "a.key")
    assert json.loads(text) == {"name": "a", "sha256": sha256((tmp_path / "a.key").read_text().rstrip("\n"))}


@pytest.mark.parametrize("words", [
    (), ("",), (" a",), ("a" * 129,), ("a\nb",), ("a", "--concurrency", "0"), ("a", "--tokens-per-minute", "many"),
    ("a", "--requests-per-minute", "1.5"),
])  # fmt: skip
async def test_what_is_no_key(words: tuple[str, ...]) -> None:
    """A name or limit that the configuration would refuse is told before a key is made: status 2."""
    status, text, errors = await command("key", "new", *words)
    assert (status, text) == (2, "")
    assert PREFIX not in errors


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128).filter(
    lambda name: name.isprintable() and name == name.strip()
)
ODD = (
    "no", "Yes", "null", "~", "1", "1e3", "0x1f", ".inf", "true", "<<", "a: b", "a #b", "- a", "*a", "&a", "!a", "'",
    '"', "\\", "%", "@a", "`", "{}", "[]", "?", "|", ">", "=", "12:30", "2026-01-01", "é", "模型", "😀", "x-a",
)  # fmt: skip


@given(NAMES | st.sampled_from(ODD))
def test_any_name_is_quoted_right(name: str) -> None:
    """Whatever a key may be called, the stanza loads, and names it so and with its models in it."""
    stanza = str(Stanza(name, ZEROS, models=(name,)))
    keys = read(UPSTREAMS + MODELS + stanza).config.keys
    assert {key: each.models for key, each in keys.items()} == {name: (name,)}
    assert yaml.safe_load(stanza)["keys"].keys() == {name}, "the YAML 1.1 of other tools reads the same"


def test_plain_names_stay_plain() -> None:
    """Quotes are for names that need them."""
    assert [quoted(name) for name in ("team-search", "a.b_c@d", "no", "a b")] == [
        "team-search", "a.b_c@d", '"no"', '"a b"',
    ]  # fmt: skip
