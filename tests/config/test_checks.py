from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config.checks import serving
from router.config.schema import MODEL_OPTIONAL, PIN_FAMILIES
from tests.config.files import MODELS, UPSTREAMS, read, texts

if TYPE_CHECKING:
    from pathlib import Path

KEYS = "keys: {k: {secret: {sha256: " + "0" * 64 + "}}}\n"


@pytest.mark.parametrize("section", ["upstreams", "models", "keys"])
@pytest.mark.parametrize("name", ['""', '" a"', '"a\\n"', '"\\u200b"', "a" * 129])
def test_names_are_short_and_printable(section: str, name: str) -> None:
    """Names become labels and lines of logs: 1 to 128 printable characters."""
    value = {"upstreams": "{base_url: http://h}", "models": "a", "keys": "{secret: {env: A}}"}[section]
    parts = {"upstreams": "a: {base_url: http://h}", "models": "m: a", "keys": "k: {secret: {env: B}}"}
    parts[section] += f", {name}: {value}"
    text = "".join(f"{name}: {{{each}}}\n" for name, each in parts.items())
    (fault,) = texts(text, {"A": "1", "B": "2"})
    assert "1 to 128 printable characters" in fault


def test_names_may_be_as_long_as_their_bound() -> None:
    """128 characters and any script are fine."""
    name = "é" * 128
    assert name in read(f"{UPSTREAMS}models: {{{name}: a}}\n").config.models


@pytest.mark.parametrize("section", ["upstreams", "models"])
def test_nothing_to_serve_is_a_fault(section: str) -> None:
    """A section whose entries are all commented out is told, not started with."""
    parts = {"upstreams": UPSTREAMS, "models": MODELS} | {section: f"{section}:\n"}
    if section == "upstreams":
        parts["models"] = "models:\n"
    assert f"{section}: names no {section[:-1]}; at least one is needed" in texts("".join(parts.values()))


@pytest.mark.parametrize(
    ("pool", "fault"),
    [
        ("[]", "models.m.pool: is empty; a model needs at least one member"),
        ("[aa]", "models.m.pool[0].upstream: no upstream is named 'aa', did you mean 'a'?"),
        ("[zebra]", "models.m.pool[0].upstream: no upstream is named 'zebra'"),
        (
            "[a, {upstream: a, model: m, tier: 2}]",
            "models.m.pool[1].upstream: a is in this pool already, with the same model",
        ),
        (
            '[{upstream: a, model: ""}]',
            ("models.m.pool[0].model: a name has 1 to 128 printable characters, with no space at its ends"),
        ),
    ],
)
def test_pools_have_members_that_exist(pool: str, fault: str) -> None:
    """An empty pool, an unknown upstream and the same member twice are faults."""
    assert texts(f"{UPSTREAMS}models: {{m: {{pool: {pool}}}}}\n") == [fault]


def test_an_upstream_may_serve_a_model_under_two_names() -> None:
    """The same upstream twice is fine if it is asked for different models."""
    pool = read(f"{UPSTREAMS}models: {{m: {{pool: [a, {{upstream: a, model: n}}]}}}}\n").config.models["m"].pool
    assert len(pool) == 2


def fallbacks(models: str) -> list[str]:
    return texts(f"{UPSTREAMS}models:\n{models}")


def test_fallbacks_are_models_that_are_served() -> None:
    """A fallback is one model's name, exact or matched by a pattern."""
    read(f'{UPSTREAMS}models: {{m: {{pool: [a], fallback: [claude-x]}}, "claude-*": b}}\n')
    assert fallbacks("  m: {pool: [a], fallback: [nn]}\n  n: a\n") == [
        "models.m.fallback[0]: no model is named 'nn', did you mean 'n'?"
    ]
    assert fallbacks('  m: {pool: [a], fallback: ["n*"]}\n  "n*": a\n') == [
        "models.m.fallback[0]: must be the name of one model, not a pattern"
    ]


def test_fallbacks_end() -> None:
    """A model that falls back to itself, directly, over a pattern or in a circle, is a fault; a diamond is not."""
    assert fallbacks("  m: {pool: [a], fallback: [m]}\n") == ["models.m.fallback[0]: falls back to itself"]
    assert fallbacks('  "m*": {pool: [a], fallback: [m1]}\n') == [
        "models.m*.fallback[0]: falls back to itself: m* serves m1"
    ]
    assert fallbacks(
        '  l: {pool: [a], fallback: [m]}\n  m: {pool: [a], fallback: [n1]}\n  "n*": {pool: [a], fallback: [o]}\n'
        "  o: {pool: [a], fallback: [m]}\n"
    ) == ["models.o.fallback[0]: fallbacks run in a circle: m → n* → o → m"]
    diamond = (
        "  l: {pool: [a], fallback: [m, n]}\n  m: {pool: [a], fallback: [o]}\n  n: {pool: [a], fallback: [o]}\n  o: a\n"
    )
    assert len(read(f"{UPSTREAMS}models:\n{diamond}").config.models) == 4


def test_a_long_chain_of_fallbacks_is_no_problem() -> None:
    """Chains are followed without recursion."""
    chain = "".join(f"  m{n}: {{pool: [a], fallback: [m{n + 1}]}}\n" for n in range(1500))
    assert len(read(f"{UPSTREAMS}models:\n{chain}  m1500: a\n").config.models) == 1501


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("gpt-5", "gpt-5"),
        ("gpt-5-mini", "gpt-5-*"),
        ("gpt-4", "gpt-*"),
        ("o3", None),
        ("x-mini", "*-mini"),
        ("gpt-", "gpt-*"),
        ("gpt", None),
        ("a.b", "a.b"),
        ("aXb", None),
        ("midddle", "m*dd*e"),
    ],
)
def test_the_most_exact_model_serves(name: str, by: str | None) -> None:
    """An exact name wins over a pattern, a longer pattern over a shorter; nothing but `*` is special."""
    assert (
        serving(name, {"gpt-*", "gpt-5-*", "gpt-5", "*-mini", "a.b", "m*dd*e"} - ({"*-mini"} if "5" in name else set()))
        == by
    )


def test_a_pattern_of_many_stars_is_fast() -> None:
    """Matching takes no exponential time; this would not end otherwise."""
    assert serving("a" * 128 + "b", {"*a" * 60 + "c": 0}) is None


def test_limits_must_make_sense_together() -> None:
    """A burst of requests without a rate would limit nothing, for upstreams and keys alike."""
    upstreams = "upstreams: {a: {base_url: http://h, limits: {request_burst: 5}}}\n"
    keys = KEYS.replace("}}}", "}, limits: {request_burst: 5}}}")
    assert texts(upstreams + MODELS + keys) == [
        "upstreams.a.limits.request_burst: needs requests_per_minute",
        "keys.k.limits.request_burst: needs requests_per_minute",
    ]
    read(upstreams.replace("request_burst", "requests_per_minute: 9, request_burst") + MODELS)


def test_inverted_timeouts_are_told_where_they_are_written() -> None:
    """A total shorter than the time to connect is a fault if both are written, across levels too."""
    upstreams = "upstreams: {a: {base_url: http://h, timeouts: {total: 8s}}}\n"
    assert texts("defaults: {timeouts: {connect: 9s, total: 8s}}" + UPSTREAMS + MODELS) == [
        "defaults.timeouts.total: total is less than connect"
    ]
    assert texts("defaults: {timeouts: {connect: 9s}}\n" + upstreams + MODELS) == [
        "upstreams.a.timeouts.total: total is less than connect"
    ]
    assert texts(upstreams + "models: {m: {pool: [a], timeouts: {connect: 9s}}}\n") == [
        "models.m.timeouts.connect: total is less than connect"
    ]


def test_a_default_yields_to_what_is_written() -> None:
    """A total below the default time to connect, written alone, is what the operator wants."""
    read("defaults: {timeouts: {total: 1s}}\nrequests: {bodies_total_max: 1MiB}" + UPSTREAMS + MODELS)


def test_bounds_must_not_contradict() -> None:
    """One body must fit into all of them, and the first ejection into the longest."""
    assert texts("requests: {body_max: 2MiB, bodies_total_max: 1MiB}" + UPSTREAMS + MODELS) == [
        "requests.bodies_total_max: bodies_total_max is less than body_max"
    ]
    assert texts("defaults: {ejection: {eject: 10m}}" + UPSTREAMS + MODELS) == [
        "defaults.ejection.eject: is longer than eject_max"
    ]


def test_key_patterns_are_names() -> None:
    """What a key may use is written in names that could exist."""
    text = UPSTREAMS + MODELS + KEYS.replace("}}}", '}, models: [a, "", "gpt-*"]}}')
    assert texts(text) == ["keys.k.models[1]: a name has 1 to 128 printable characters, with no space at its ends"]


HOSTED = "upstreams: {a: {base_url: http://h/v1}, g: {base_url: 'http://h{1..2}/v1'}}\n"


def test_pins_name_families_and_upstreams_that_exist() -> None:
    """Each family of stored things has one upstream, an upstream of a range included, but not the range."""
    pinned = read(HOSTED + MODELS + "pins: {files: a, batches: g-2}\n").config.pins
    assert pinned == {"files": "a", "batches": "g-2"}
    assert texts(HOSTED + MODELS + "pins: {file: a, batches: aa, uploads: g, live: [a], xyz: a}\n") == [
        "pins.file: no family of paths has this name, did you mean 'files'?",
        "pins.batches: no upstream is named 'aa', did you mean 'a'?",
        "pins.uploads: 'g' stands for 2 upstreams; name one of them",
        "pins.live: expected a single value, found a list",
        f"pins.xyz: no family of paths has this name; known: {', '.join(PIN_FAMILIES)}",
    ]


def test_default_models_are_models_that_are_served() -> None:
    """An endpoint that needs no model gets one that exists, exact or matched by a pattern; the others get none."""
    models = 'models: {m: a, "gpt-*": a}\n'
    default = read(f"{HOSTED}{models}default_models: {{responses: m, images: gpt-9}}\n").config.default_models
    assert default == {"responses": "m", "images": "gpt-9"}
    assert texts(f'{HOSTED}{models}default_models: {{chat: m, image: m, images: o, moderations: "gpt-*"}}\n') == [
        f"default_models.chat: no endpoint of this name does without a model; known: {', '.join(MODEL_OPTIONAL)}",
        "default_models.image: no endpoint of this name does without a model, did you mean 'images'?",
        "default_models.images: no model is named 'o'",
        "default_models.moderations: must be the name of one model, not a pattern",
    ]


def test_faulty_sections_make_no_pin_or_default_model_a_fault() -> None:
    """When upstreams or models could not be read, nothing is said about what names them."""
    assert len(texts("upstreams: 1\nmodels: {m: a}\npins: {files: a}\n")) == 1
    assert len(texts(f"{HOSTED}models: 1\ndefault_models: {{images: a}}\n")) == 1


def test_the_spool_folder_takes_files(tmp_path: Path) -> None:
    """Where large bodies are kept must exist; it is looked for beside the configuration."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "file").write_text("")
    text = HOSTED + MODELS + "requests: {spool_dir: %s}\n"
    assert read(text % "spool", directory=tmp_path).config.requests.spool_dir == str(tmp_path / "spool")
    for folder in ("missing", "file"):
        assert texts(text % folder, directory=tmp_path) == [
            "requests.spool_dir: is not a folder in which files can be made"
        ]
    assert texts(text % "' '", directory=tmp_path) == ["requests.spool_dir: is not a path"]
