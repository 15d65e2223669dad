from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from router.config.loader import load
from tests.config.files import MODELS, UPSTREAMS, pem_files, read

if TYPE_CHECKING:
    from collections.abc import Iterator

ZEROS = "{sha256: " + "0" * 64 + "}"
USED = "\nupstreams: {a: {base_url: http://10.0.0.1/v1}}\n"
"""One upstream, which the model `m` uses."""


def warned(text: str, *, directory: Path = Path("nowhere")) -> list[str]:
    """What is warned of, without the place in the file."""
    warnings = read(text, {"K": "secret"}, directory).warnings
    assert all(": warning: " in line for line in warnings)
    return [line.split(": warning: ", 1)[1] for line in warnings]


def about(text: str) -> list[str]:
    """The settings that are warned of."""
    return [line.split(": ", 1)[0] for line in warned(text)]


def keys(*models: str, more: str = "") -> str:
    return f"keys: {{k: {{secret: {ZEROS}, models: [{', '.join(models)}]{more}}}}}\n"


def test_a_warning_says_where(tmp_path: Path) -> None:
    """A warning has the place form of a fault, says that it is a warning, and does not hinder loading."""
    path = tmp_path / "router.yaml"
    path.write_text(f"admin: :9\n{USED}{MODELS}")
    loaded = load(path, environ={})
    assert [line.split(" whoever")[0] for line in loaded.warnings] == [f"{path}:1:8: warning: admin[0].address:"]
    assert loaded.config.admin[0].address == ":9"


@pytest.mark.parametrize("text", [
    USED + MODELS,
    UPSTREAMS + "models: {m: {pool: [a], fallback: [n]}, n: b}",
    USED + MODELS + keys("m"),
])  # fmt: skip
def test_what_is_meant_is_not_warned_of(text: str) -> None:
    """Configurations as people write them get no warning: one that always comes is read by nobody."""
    assert warned(text) == []


@pytest.mark.parametrize(("settings", "is_open"), [
    ("admin: :9464", True), ("admin: 10.0.0.1:9464", True), ("admin: localhost:9464", False),
    ("admin: 'unix:admin.sock'", False), ("admin: [127.0.0.1:9464, ':9465']", True),
    (f"admin: :9464\nadmin_token: {ZEROS}", False),
])  # fmt: skip
def test_admin_for_everybody_wants_a_token(settings: str, is_open: bool) -> None:
    """An admin address that other machines reach, without `admin_token`: anybody may drain the router."""
    found = about(f"{settings}\n{USED}{MODELS}")
    assert [each.partition("[")[0] for each in found] == ["admin"] * is_open


def test_admin_by_mutual_tls_wants_no_token(tmp_path: Path) -> None:
    """Who lets in only those with a certificate has said who may."""
    pem_files(tmp_path)
    text = "admin: {address: ':9464', tls: {cert: cert.pem, key: key.pem%s}}" + USED + MODELS
    assert len(warned(text % "", directory=tmp_path)) == 1
    assert warned(text % ", client_ca: ca.pem", directory=tmp_path) == []


@pytest.mark.parametrize(("pattern", "model", "is_served"), [
    ("m", "m", True), ("n", "m", False), ("gpt-*", "gpt-5", True), ("gpt-*", "m", False), ("gpt-5", "gpt-*", True),
    ("gpt-5-*", "gpt-*", True), ("*-mini", "gpt-*", True), ("gpt-*", "claude-*", False), ("*-mini", "*-nano", False),
    ("*", "m", True), ("a*b*c", "abc", True), ("a*b*c", "acb", False),
])  # fmt: skip
def test_what_a_key_may_use_must_be_there(pattern: str, model: str, is_served: bool) -> None:
    """A name or pattern of a key that no served name can match; two patterns are compared, not only names."""
    found = about(f"{USED}models: {{'{model}': a}}\n" + keys(f"'{pattern}'", f"'{model}'"))
    assert found == ([] if is_served else ["keys.k.models[0]"])


def test_the_model_of_a_key_is_suggested() -> None:
    """A misspelt model of a key is told with the one that was probably meant."""
    (line,) = warned(f"{USED}models: {{gpt-5: a}}\n" + keys("gtp-5", "'*'"))
    assert line == "keys.k.models[0]: matches no model, did you mean 'gpt-5'?"


def test_the_hash_of_nothing_is_known() -> None:
    """`printf %s "$KEY" | sha256sum` without a KEY gives a hash like any other, and nobody would ever get in."""
    empty = hashlib.sha256(b"").hexdigest()
    (line,) = warned(f"{USED}{MODELS}keys: {{k: {{secret: {{sha256: {empty}}}}}}}")
    assert line.startswith("keys.k.secret: is the SHA-256 of nothing")


@pytest.mark.parametrize(("tokens", "expected", "never"), [(1024, 1024, True), (1025, 1024, False), (90, 50, False)])
def test_a_token_limit_below_what_is_reserved(tokens: int, expected: int, never: bool) -> None:
    """A key whose limit the usual request can never fit is told; by default 1024 tokens of answer are reserved."""
    limits = f", limits: {{tokens_per_minute: {tokens}}}"
    found = about(f"defaults: {{default_output_tokens: {expected}}}\n{USED}{MODELS}{keys('m', more=limits)}")
    assert found == ["keys.k.limits.tokens_per_minute"] * never


def test_a_model_that_no_key_may_use() -> None:
    """With keys, a model is of no use that none of them may ask for, unless others fall back to it."""
    two = USED + "models: {m: a, n: {pool: [{upstream: a, model: x}]}}\n"
    assert about(two + keys("m")) == ["models.n"]
    assert about(two + keys("m", "n")) == []
    assert about(two + keys("'*'", more=", disabled: true")) == ["models.m", "models.n"]
    assert about(two.replace("{m: a,", "{m: {pool: [a], fallback: [n]},") + keys("m")) == []
    assert about(two + "default_models: {moderations: n}\n" + keys("m")) == []


def test_an_upstream_that_nothing_uses() -> None:
    """An upstream in no pool and behind no pin; of a range it is enough that one part is used."""
    assert about(UPSTREAMS + MODELS) == ["upstreams.b"]
    assert about(UPSTREAMS + MODELS + "pins: {files: b}") == []
    ranged = "upstreams: {g: {base_url: 'http://10.0.0.{1..2}/v1'}}\nmodels: {m: %s}"
    assert about(ranged % "g") == about(ranged % "g-2") == []


def test_a_tier_without_weight_serves_nothing() -> None:
    """Weight 0 drains one member; if all members of a tier have it, nobody is left there."""
    pool = "models: {m: {pool: [{upstream: a, weight: 0}, {upstream: b, tier: %s}]}}"
    assert warned(UPSTREAMS + pool % 2) == [
        "models.m.pool: every member of tier 1 has weight 0: that tier serves nothing"
    ]
    assert warned(UPSTREAMS + pool % 1) == []


def test_a_fallback_that_was_tried_before() -> None:
    """A fallback named twice is tried once."""
    found = about(UPSTREAMS + "models: {m: {pool: [a], fallback: [n, o, n]}, n: b, o: b}")
    assert found == ["models.m.fallback[2]"]


@pytest.mark.parametrize(("url", "is_read"), [
    ("http://api.example.com/v1", True), ("http://8.8.8.8/v1", True), ("https://api.example.com/v1", False),
    ("http://10.0.0.1/v1", False), ("http://127.0.0.1:1/v1", False), ("http://vllm:8000/v1", False),
    ("http://vllm.models.svc/v1", False), ("http://vllm.models.svc.cluster.local/v1", False),
    ("http://[2606:4700::1111]/v1", True), ("http://[fd00::1]/v1", False), ("http://8.8.8.{1..2}/v1", True),
])  # fmt: skip
def test_a_credential_in_the_clear(url: str, is_read: bool) -> None:
    """A credential sent by http to where others may read it; a network of one's own is one's own business."""
    text = f"upstreams: {{a: {{base_url: '{url}'%s}}}}\n{MODELS}"
    assert about(text % ", api_key: {env: K}") == ["upstreams.a.base_url"] * is_read
    assert about(text % "") == []


@pytest.mark.parametrize(("defaults", "upstream", "model", "found"), [
    ("first_token: 1h", "", "", ["defaults.timeouts.first_token"]),
    ("first_token: 1h, total: 2h", "", "", []),
    ("", "idle: 1h", "", ["upstreams.a.timeouts.idle"]),
    ("", "idle: 1h", "total: 2h", []),
    ("", "first_byte: 20m, total: 10m", "", ["upstreams.a.timeouts.first_byte"]),
    ("", "total: 10s", "first_token: 20s", ["models.m.timeouts.first_token"]),
    ("", "", "total: 10s", []),
    ("total: 10m", "", "", []),
])  # fmt: skip
def test_a_deadline_that_never_comes(defaults: str, upstream: str, model: str, found: list[str]) -> None:
    """A phase longer than the whole exchange may take is told; a default that a shorter `total` cuts is not."""
    text = (
        f"defaults: {{timeouts: {{{defaults}}}}}\n"
        f"upstreams: {{a: {{base_url: http://10.0.0.1/v1, timeouts: {{{upstream}}}}}}}\n"
        f"models: {{m: {{pool: [a], timeouts: {{{model}}}}}}}\n"
    )
    assert about(text) == found


def test_a_deadline_that_comes_somewhere() -> None:
    """It is enough that one member of a pool, or one model of an upstream, leaves it the time."""
    text = (
        "upstreams: {a: {base_url: http://10.0.0.1/v1, timeouts: {idle: 1h}},"
        " b: {base_url: http://10.0.0.2/v1, timeouts: {total: %s}}}\n"
        "models: {m: {pool: [a, b], timeouts: {first_token: 40m}}, n: {pool: [a], timeouts: {total: %s}}}\n"
    )
    assert about(text % ("10m", "10m")) == ["upstreams.a.timeouts.idle", "models.m.timeouts.first_token"]
    assert about(text % ("2h", "10m")) == ["upstreams.a.timeouts.idle"]
    assert about(text % ("2h", "2h")) == []


def test_what_a_preset_gives_nobody_wrote() -> None:
    """A preset's patience beyond `total` is not the operator's mistake."""
    text = (
        f"defaults: {{timeouts: {{total: 10m}}}}\nupstreams: {{a: {{preset: deepseek, api_key: {{env: K}}}}}}{MODELS}"
    )
    assert warned(text) == []


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody may enter, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_files_that_everybody_may_read(shared: Path) -> None:
    """A secret or private key that every user of the machine can read is told, unless a folder above keeps them out."""
    pem_files(shared)
    (shared / "secret").write_text("s")
    text = (
        "listen: {address: '127.0.0.1:8080', tls: {cert: cert.pem, key: key.pem}}\n"
        f"upstreams: {{a: {{base_url: http://10.0.0.1/v1, api_key: {{file: secret}}}}}}{MODELS}"
    )
    for name in ("secret", "key.pem"):
        (shared / name).chmod(0o644)
    assert warned(text, directory=shared) == [
        "listen[0].tls.key: every user of this machine can read file key.pem: chmod o-r",
        "upstreams.a.api_key.file: every user of this machine can read file secret: chmod o-r",
    ]
    (shared / "key.pem").chmod(0o640)
    assert len(warned(text, directory=shared)) == 1
    shared.chmod(0o750)
    assert warned(text, directory=shared) == []


def test_kubernetes_mounts_are_taken_as_they_are(shared: Path) -> None:
    """A mounted Secret can be read by everybody in the container, where there is nobody else."""
    (shared / "..2026").mkdir(mode=0o755)
    (shared / "..2026/secret").write_text("s")
    (shared / "..2026/secret").chmod(0o644)
    (shared / "..data").symlink_to("..2026")
    (shared / "secret").symlink_to("..data/secret")
    text = f"upstreams: {{a: {{base_url: http://10.0.0.1/v1, api_key: {{file: secret}}}}}}{MODELS}"
    assert warned(text, directory=shared) == []


def test_without_this_machine_no_file_is_looked_at(shared: Path) -> None:
    """A configuration that is checked where it is kept is not judged by the files of that place."""
    path = shared / "router.yaml"
    path.write_text(f"upstreams: {{a: {{base_url: http://10.0.0.1/v1, api_key: {{file: secret}}}}}}{MODELS}")
    (shared / "secret").write_text("s")
    (shared / "secret").chmod(0o644)
    assert len(load(path, environ={}).warnings) == 1
    assert load(path, environ=None).warnings == ()
