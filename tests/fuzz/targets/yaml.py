"""Configuration files: a text becomes a Config, or faults that say where (DESIGN 6, OPERATIONS 4)."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from router.config import dump, yaml_nodes
from router.config.loader import parse
from router.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

BYTES_MAX = 2048
SECRETS = {"SECRET_ONE": "sk-never-shown-0123456789", "SECRET_TWO": "sk-never-shown-abcdefghij"}
IN_A_FILE = "sk-never-shown-in-a-file"
WORDS = (
    b"listen: ", b"admin: ", b"upstreams:", b"models:", b"keys:", b"defaults:", b"base_url: ",
    b"http://10.0.0.1:8000/v1", b"https://b.example/v1", b"{1..4}", b"{01..12}", b"api_key: {env: SECRET_ONE}",
    b"api_keys: [{env: SECRET_TWO}]", b"api_key: {file: secret}", b"secret: {sha256: ", b"a" * 64, b"credential: ",
    b"pool:", b"upstream: a", b"weight: 3", b"tier: 2", b"model: ", b"fallback: [", b"price: {input: 1.25, output: 10}",
    b"timeouts: {idle: 60s}",
    b"limits: {requests_per_minute: 600, tokens_per_minute: 2M, concurrency: 4, usd_per_month: 20}", b"choose: ",
    b"two_choices", b"least_in_flight", b"affinity", b"protocol: anthropic", b"preset: ", b"openai", b"azure",
    b"headers: {set: {x-a: b}, deny: [x-b], allow: default}", b"query: {a: b}", b"probe: /health",
    b"stream_usage: auto", b"proxy: ", b"tls: {verify: false}", b"drop_params: [n]", b"max_tokens_field: max_tokens",
    b"path: /x/{model}", b"requests: {body_max: 64M}", b"retry: {attempts: 3}", b"pins: {files: a}",
    b"bare_paths: true", b"x-a: &a", b"*a", b"<<: *a", b"<<: [*a, *a]", b"&a", b"!!python/object", b"--- ", b"...",
    b"? ", b"- ", b": ", b"\n  ", b"\n    ", b"{", b"}", b"[", b"]", b"'", b'"', b"#", b"|", b">", b"null", b"~",
    b"true", b".inf", b".nan", b"0x10", b"0o7", b"1e3", b"-1", b"10ms", b"2h30m", b"99999999999999999999", b"\\uD83D",
    b"\\U0010FFFF", b"\\x00", b"\t", b"\xef\xbb\xbf", b"\xff", b"\xc2\x85", b"\xe2\x80\xa8", b"\xf0\x9f\x98\x80",
    b'"claude-*"', b"m: a",
)  # fmt: skip

_NAME = "fuzz.yaml"
_FOLDER = Path(__file__).parents[1] / "files"
"""With a secret in it."""
_OTHER_BYTES_MAX = 200
"""PyYAML's own parser takes ten times as long."""
_FAULT = re.compile(rf"{_NAME}:([1-9][0-9]*):([1-9][0-9]*): (.+)")
_MORE = re.compile(rf"{_NAME}: and [0-9]+ more faults")
_LINE_ENDS = (re.compile("\n"), re.compile("\r\n|[\n\r\x85\u2028\u2029]"))
"""As editors count lines, and as YAML 1.1 does."""


def check(data: bytes) -> None:
    """Load the text; load what `config show` writes of it."""
    if b"/dev" in data or b"/proc" in data:
        return  # a secret's file may be any that the operator names, and some of these never end
    _check_other_parser(data)
    try:
        loaded = parse(data, _NAME, directory=_FOLDER, environ=SECRETS)
    except ConfigError as refused:
        assert refused.faults  # noqa: PT017 - no test: a promise
        for fault in refused.faults:
            _check_fault(fault, data)
        return
    text = dump.to_yaml(loaded)
    assert not _shows(text)
    assert not _shows(repr(loaded))
    if "hidden" in text or "…" in text:
        return  # it is not told whole
    again = parse(text, _NAME, directory=_FOLDER, environ=SECRETS)
    assert dump.effective(again) == dump.effective(loaded), "what is shown is not what is in effect"


def _check_other_parser(data: bytes) -> None:
    """Where there is no libyaml, PyYAML's own parser refuses in the same way, and all text it reads can be written."""
    with contextlib.suppress(UnicodeDecodeError, yaml_nodes.SyntaxFault):
        root = yaml_nodes.compose(data[:_OTHER_BYTES_MAX].decode("utf-8-sig"), yaml.SafeLoader)
        for text in _texts(root):
            text.encode()


def _texts(node: yaml_nodes.Node) -> Iterator[str]:
    if isinstance(node, yaml_nodes.Scalar):
        yield node.text
    elif isinstance(node, yaml_nodes.Sequence):
        for item in node.items:
            yield from _texts(item)
    else:
        for name, entry in node.entries.items():
            yield name
            yield from _texts(entry.node)


def _check_fault(fault: str, data: bytes) -> None:
    """It is one line, says a place inside the file, and no secret."""
    assert not _shows(fault)
    assert fault.encode()
    assert len(fault.splitlines()) == 1, f"more than a line: {fault!r}"
    if _MORE.fullmatch(fault):
        return
    found = _FAULT.fullmatch(fault)
    assert found is not None, f"no place: {fault!r}"
    text, line, column = data.decode("utf-8-sig", "replace"), int(found[1]), int(found[2])
    assert any(_is_place(ends.split(text), line, column) for ends in _LINE_ENDS), f"not in the file: {fault!r}"


def _is_place(lines: list[str], line: int, column: int) -> bool:
    lines.append("")  # the end of the file is a place, too
    return line <= len(lines) and column <= len(lines[line - 1]) + 1


def _shows(text: str) -> bool:
    return any(secret in text for secret in (*SECRETS.values(), IN_A_FILE))
