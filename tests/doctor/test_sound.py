"""Reading a configuration with faults: they are all told, and what is sound is still there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.doctor.sound import read

if TYPE_CHECKING:
    from pathlib import Path

    from router.doctor.sound import Read

FAULTY = """\
listen: nowhere
upstreams:
  good: {base_url: "http://127.0.0.1:1/v1", api_key: {env: KEY}}
  gpu: {base_url: "http://127.0.0.{1..2}:8000/v1"}
  keyless: {preset: openai, api_key: {env: NOBODY_SET}}
  bad: {base_url: "ftp://127.0.0.1"}
  odd: {base_url: "http://127.0.0.1:2/v1", api_key: {env: NOBODY_SET}, keepalive: never}
models:
  m: {pool: [good, bad, gpu, godo]}
  n: bad
requests: {body_max: huge}
keys:
  a: {secret: {env: NOBODY_SET}}
"""


def written(folder: Path, text: str) -> Read:
    path = folder / "router.yaml"
    path.write_text(text)
    return read(path, {"KEY": "sk-0123456789"})


def test_a_good_file_is_read_as_by_the_daemon(tmp_path: Path) -> None:
    """Without faults there is nothing special about it."""
    found = written(tmp_path, 'upstreams: {a: {base_url: "http://127.0.0.1:1/v1"}}\nmodels: {m: a}\n')
    assert (found.faults, found.bare) == ((), frozenset())
    assert found.loaded is not None
    assert found.loaded.digest


def test_what_is_sound_is_kept(tmp_path: Path) -> None:
    """Upstreams without faults stay, with whatever asks for them; one that lacks only its credential stays without."""
    found = written(tmp_path, FAULTY)
    places = ("listen", "keyless.api_key", "bad.base_url", "odd.keepalive", "odd.api_key", "godo", "body_max", "keys.a")
    for place in places:
        assert any(place in fault for fault in found.faults), place
    assert len(found.faults) == len(places)
    assert found.loaded is not None
    config = found.loaded.config
    assert list(config.upstreams) == ["good", "gpu-1", "gpu-2", "keyless"]
    assert found.bare == {"keyless"}
    assert [member.upstream for member in config.models["m"].pool] == ["good", "gpu-1", "gpu-2"]
    assert config.models["n"].pool == ()
    assert (config.listen, len(config.admin), config.keys) == ((), 1, {})
    assert list(found.loaded.secrets.values()) == ["sk-0123456789"]


def test_a_file_that_is_none_has_nothing_sound(tmp_path: Path) -> None:
    """No YAML or no file at all: there are faults, and nothing is left."""
    for found in (written(tmp_path, "upstreams: ["), read(tmp_path / "missing.yaml", {})):
        assert found.faults
        assert found.loaded is None


def test_a_file_without_upstreams_still_says_where_to_listen(tmp_path: Path) -> None:
    """However little is sound, there is something to look at."""
    for text in ("models: {}", "upstreams: {}", "upstreams: {a: 5}", ""):
        found = written(tmp_path, text)
        assert found.faults
        assert found.loaded is not None
        assert dict(found.loaded.config.upstreams) == {}
        assert [each.address for each in found.loaded.config.listen] == ["127.0.0.1:8080"]
    found = written(tmp_path, "- a")
    assert found.loaded is not None
    assert (found.loaded.config.listen, found.loaded.config.upstreams) == ((), {})


def test_an_included_file_that_is_missing_hides_nothing(tmp_path: Path) -> None:
    """What the other files declare can be examined."""
    found = written(tmp_path, 'include: [more.yaml]\nupstreams: {a: {base_url: "http://127.0.0.1:1/v1"}}\n')
    assert any("more.yaml" in fault for fault in found.faults)
    assert found.loaded is not None
    assert list(found.loaded.config.upstreams) == ["a"]
