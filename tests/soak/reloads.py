"""The configuration of the soak, and its edits: each in effect at once, or, if it is invalid, not at all."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import yaml

from tests.soak.clients import SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping

Settings = dict[str, Any]

FAULTY = ("first", "second", "third", "fourth")
GOOD = "good"
"""Never fails, and is asked last: because of it no request may fail before its content (promise 2 of DESIGN 1)."""
EXTRA = "extra"
"""Never fails either, and comes and goes with reloads."""
NAMES = (*FAULTY, GOOD, EXTRA)

UPSTREAM_SECRET = "sk-upstream-0123456789"
ENVIRON = {"UPSTREAM_SECRET": UPSTREAM_SECRET} | {f"{key.upper()}_SECRET": secret for key, secret in SECRETS.items()}

INVALID_EVERY = 4
"""One edit in so many is invalid."""

_IMPATIENT = {"first_byte": "1s", "first_token": "1500ms", "idle": "5s"}
_PATIENT = {"connect": "30s", "first_byte": "60s", "first_token": "60s", "idle": "60s"}
"""Of those that always answer: a machine that is busy elsewhere must not make them look dead."""

_DEFAULTS = {
    # Enough tries to come past everyone who fails, and to the good one.
    "retry": {"attempts": 10, "budget_min": 1000},
    "ejection": {"eject": "1s", "eject_max": "3s"},
    "streams": {"heartbeat": "1s", "hold": "2s"},
}

_FAULTS = ("unknown setting", "weight", "secret", "syntax")


def edit(number: int, seed: int, ports: Mapping[str, int]) -> tuple[str, bool]:
    """The `number`th content of the file, and whether it is valid. The first is, and no two are alike."""
    rng = Random(f"{seed}.reload.{number}")
    settings = _settings(number, rng, ports)
    if not number or number % INVALID_EVERY:
        return yaml.safe_dump(settings), True
    fault = rng.choice(_FAULTS)
    if fault == "unknown setting":
        settings["upsteams"] = {}
    elif fault == "weight":
        settings["models"]["chat"]["pool"][0]["weight"] = -1
    elif fault == "secret":
        settings["keys"]["team"]["secret"] = {"env": "NOT_SET_ANYWHERE"}
    text = yaml.safe_dump(settings)
    return text + "models: [" * (fault == "syntax"), False


def _settings(number: int, rng: Random, ports: Mapping[str, int]) -> Settings:
    extra = [EXTRA] if rng.random() < 0.5 else []
    upstreams = {}
    for name in (*FAULTY, GOOD, *extra):
        common = {
            "base_url": f"http://127.0.0.1:{ports[name]}/v1",
            "api_key": {"env": "UPSTREAM_SECRET"},
            "timeouts": _IMPATIENT if name in FAULTY else _PATIENT,
        }
        if name in FAULTY:
            common["limits"] = {"concurrency": rng.randint(100, 500)}
        upstreams[name] = common
        upstreams[f"{name}-messages"] = common | {"protocol": "anthropic"}
    keys: Settings = {
        "team": {
            "secret": {"env": "TEAM_SECRET"},
            "limits": {
                "concurrency": rng.randint(1000, 2000),
                "requests_per_minute": rng.randint(10_000_000, 20_000_000),
                "tokens_per_minute": rng.randint(1_000_000_000, 2_000_000_000),
            },
        },
        "small": {
            "secret": {"env": "SMALL_SECRET"},
            "limits": {
                "concurrency": rng.randint(1, 3),
                "requests_per_minute": rng.randint(60, 240),
                "tokens_per_minute": rng.randint(20_000, 40_000),
            },
        },
    }
    if not number or rng.random() < 0.5:
        keys["guest"] = {"secret": {"env": "GUEST_SECRET"}}
    return {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "upstreams": upstreams,
        "models": {
            "chat": {"pool": _pool("", (*FAULTY, *extra), rng)},
            "claude": {"pool": _pool("-messages", (*FAULTY[:2], *extra), rng)},
            "embed": {"pool": _pool("", FAULTY[2:], rng)},
        },
        "defaults": _DEFAULTS,
        "keys": keys,
        "requests": {"body_max": 4_000_000 + number},
        "reload": {"watch": False},
        "stop": {"notice": "1ms", "drain": "10s"},
    }


def _pool(protocol: str, names: tuple[str, ...], rng: Random) -> list[Settings]:
    members = [{"upstream": name + protocol, "weight": rng.choice((0, 0.5, 1, 2, 3))} for name in names]
    return [*members, {"upstream": GOOD + protocol, "tier": 2}]
