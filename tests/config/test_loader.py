from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.loader import Rejected, load
from router.config.sources import FILE_BYTES_MAX
from router.errors import ConfigError
from tests.config.files import MODELS, TWIN, UPSTREAMS, faults, read

if TYPE_CHECKING:
    from pathlib import Path

GOOD = UPSTREAMS + MODELS


def test_the_shipped_configuration_works_as_it_is() -> None:
    """`config/router.yaml` loads without any environment."""
    loaded = load(TWIN, environ={})
    assert loaded.config.upstreams["local"].base_url == "http://127.0.0.1:8000/v1"
    assert set(loaded.sources) == {TWIN}


def test_a_file_is_read_beside_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative files are looked for beside the configuration as it was named, wherever the process runs."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "key").write_text("s")
    (tmp_path / "c" / "real.yaml").write_text("upstreams: {a: {base_url: http://h, api_key: {file: key}}}" + MODELS)
    (tmp_path / "c" / "link.yaml").symlink_to("real.yaml")
    monkeypatch.chdir(tmp_path)
    loaded = load((tmp_path / "c" / "link.yaml").relative_to(tmp_path), environ={})
    assert list(loaded.secrets.values()) == ["s"]
    assert set(loaded.sources) == {tmp_path / "c" / "link.yaml", tmp_path / "c" / "key"}


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    """A missing file, a folder and a file too large are told by their path."""
    missing = tmp_path / "router.yaml"
    with pytest.raises(Rejected) as refused:
        load(missing, environ={})
    assert refused.value.faults == (f"{missing}: cannot be read: No such file or directory",)
    assert refused.value.sources == {missing: ""}
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, environ={})
    missing.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    with pytest.raises(ConfigError, match="larger than 1048576 bytes"):
        load(missing, environ={})


def test_faults_name_the_file_as_it_was_given(tmp_path: Path) -> None:
    """A fault begins with file, line and column as terminals and editors follow them."""
    path = tmp_path / "router.yaml"
    path.write_text("upstreams:\n  openai:\n    base_url: https://h/v1\n    keepalife: 3s\nmodels: {m: openai}\n")
    with pytest.raises(ConfigError) as refused:
        load(path, environ={})
    assert refused.value.faults == (
        f"{path}:4:5: upstreams.openai.keepalife: unknown setting, did you mean 'keepalive'?",
    )


def test_the_digest_knows_file_and_secrets(tmp_path: Path) -> None:
    """The digest changes with the file, with a secret in the environment and with a secret file, and else never."""
    text = "upstreams: {a: {base_url: http://h, api_keys: [{env: E}, {file: key}]}}" + MODELS

    def digest(*, env: str = "e", key: str = "k", more: str = "") -> str:
        (tmp_path / "key").write_text(key)
        return read(text + more, {"E": env, "OTHER": os.urandom(4).hex()}, tmp_path).digest

    base = digest()
    assert base == digest()
    assert len({base, digest(env="f"), digest(key="l"), digest(more="# x")}) == 4


def test_secrets_are_not_printed(tmp_path: Path) -> None:
    """Neither the representation of what was loaded nor its digest shows a secret."""
    loaded = read("upstreams: {a: {base_url: http://h, api_key: {env: E}}}" + MODELS, {"E": "hunter2"}, tmp_path)
    assert "hunter2" not in repr(loaded)
    assert "hunter2" in loaded.secrets.values()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"listen: \xff\n", "f:1:9: not UTF-8 text"),
        ("é: ü\n".encode() + b"\xc3", "f:2:1: not UTF-8 text"),
        (b"a: [1\n", "f:2:1: did not find expected ',' or ']', while parsing a flow sequence that began on line 1"),
        (b"x" * (FILE_BYTES_MAX + 1), "f:1:1: larger than 1048576 bytes"),
        ("a: \udc80\n", "f:1:4: not UTF-8 text"),
    ],
)
def test_what_cannot_be_parsed_is_one_fault(content: bytes | str, fault: str) -> None:
    """Broken encoding, broken YAML and a file too large are told once, with their place."""
    assert faults(content) == [fault]


def test_a_byte_order_mark_is_no_fault() -> None:
    """Files from editors that write one are read."""
    assert read(b"\xef\xbb\xbf" + GOOD.encode()).config == read(GOOD).config


def test_a_mebibyte_of_faults_is_told_in_bounded_space() -> None:
    """A file full of unknown names is refused with a bounded number of lines."""
    told = faults("".join(f"name{n}: 1\n" for n in range(40_000)))
    assert len(told) == 101


TEXT = TWIN.read_text()
SNIPPETS = st.one_of(
    st.text(max_size=8),
    st.sampled_from([
        "\t", "\n", ": ", "- ", "{", "}", "[", "]", "&a ", "*a", "!!x ", "'", '"', "#", "|", "> ", "? ", "<<: *a",
        "---\n", "...\n", "%YAML 1.2\n", "{1..4}", "~", "1e999", "-1", ".nan", "\r", "\0", "\ufeff",
        "@", "`", "x-", "$", "\x85", "\\",
    ]),
)  # fmt: skip
EDITS = st.lists(st.tuples(st.integers(0, len(TEXT)), st.integers(0, 40), SNIPPETS), min_size=1, max_size=6)


def outcome(text: str) -> tuple[str, ...] | None:
    """The faults of a text; None if it is a configuration."""
    try:
        read(text)
    except ConfigError as refused:
        return refused.faults
    return None


@settings(max_examples=150, deadline=None)
@given(EDITS, st.booleans())
def test_any_edit_is_read_or_refused(edits: list[tuple[int, int, str]], uncommented: bool) -> None:
    """Whatever an edit leaves behind, the outcome is a configuration or faults with a place, and nothing else."""
    text = TEXT.replace("#", "") if uncommented else TEXT
    for start, removed, added in edits:
        text = text[:start] + added + text[start + removed :]
    told = outcome(text)
    assert told is None or told
    assert all(fault.startswith("f:") and "\n" not in fault for fault in told or ())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    """Bytes that are no text at all end in faults too."""
    assert faults(content)
