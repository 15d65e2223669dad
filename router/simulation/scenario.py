"""A scenario: the traffic that comes, how each upstream behaves, and what happens to it when.

Every fault of both files is told with its place, by the machinery of `router.config`. Secrets are not looked up: a
simulation sends nothing, so it can be run where the keys are not.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from msgspec import Meta

from router.config import convert, loader, yaml_nodes
from router.config.report import Mark, Report
from router.config.schema import Config, Count, Limits, Protocol, Seconds, Settings
from router.config.sources import Sources
from router.errors import ConfigError
from router.policy.patterns import PatternMap

if TYPE_CHECKING:
    from pathlib import Path

S = TypeVar("S", bound=Settings)

REQUESTS_MAX: Final = 20_000_000
"""Requests that a scenario may ask for: some quarter of an hour of computing. More is a slip of the pen."""


class Spread(Settings, frozen=True):
    """How long something takes: log-normal, as answers of language models are."""

    median: Seconds
    p95: Seconds | None = None
    """One of twenty takes longer. Default: always the median."""


class Traffic(Settings, frozen=True):
    """Clients that ask for one model; they come at random, whatever became of those before."""

    model: str
    rate: Annotated[float, Meta(ge=0.001, le=100_000)]
    """Requests a second on average, without retries."""
    key: str | None = None
    """The configured key they use; needed where keys are configured."""
    protocol: Protocol = Protocol.OPENAI
    """What they speak: chat completions or messages."""
    start: Seconds | None = None
    """When they begin. Default: at once."""
    until: Seconds | None = None
    """When the last of them begins. Default: at the end."""
    stream: bool = True
    """They ask for streams."""
    prompt_tokens: Annotated[Count, Meta(ge=1)] = Count(500)
    output_tokens: Annotated[Count, Meta(ge=0)] = Count(200)
    max_tokens: Count | None = None
    """What they allow for an answer. Default: they do not say."""
    retries: Annotated[int, Meta(ge=0, le=20)] = 2
    """How often they come back by themselves; 2 is what the SDKs do (RELIABILITY 4.1)."""
    patience: Seconds = Seconds(600)
    """How long they wait for an answer before they leave, and come back if they retry; 10 min is what the SDKs do."""
    leave: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """The share of them that leaves early for good: somebody pressed stop."""
    leave_within: Seconds = Seconds(5)
    """At a random moment of this time."""


class Behaviour(Settings, frozen=True):
    """How a simulated upstream answers while nothing is wrong with it."""

    connect: Seconds = Seconds(0.001)
    """Until a connection stands, or is refused."""
    first_token: Spread = Spread(median=Seconds(0.4), p95=Seconds(1.5))
    """Taken up → first content."""
    answer: Spread = Spread(median=Seconds(3), p95=Seconds(12))
    """First content → last byte."""
    slots: Annotated[Count, Meta(ge=1)] | None = None
    """Requests it works on at once. Default: any number."""
    queue: Count = Count(1000)
    """Requests that may wait there for a slot; more are refused with 503."""
    limits: Limits = Limits()
    """What its provider enforces for each credential with 429, whether or not the configuration knows."""
    says_when: bool = True
    """Its 429 says when to come back."""
    errors: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """The share of requests that fail with 500 on a good day."""


class Kind(StrEnum):
    """What can go wrong with an upstream."""

    DIE = "die"
    """Its connections break and new ones are refused."""
    VANISH = "vanish"
    """Its connections fall silent and new ones get no answer: the host or the network is gone."""
    HANG = "hang"
    """It takes requests and never answers."""
    ERROR = "error"
    """500."""
    OVERLOAD = "overload"
    """503."""
    RATE_LIMIT = "rate_limit"
    """429."""
    QUOTA = "quota"
    """402: the account is empty."""
    AUTH = "auth"
    """401: the credential is refused."""
    MISSING = "missing"
    """404: it does not have the model."""
    REFUSE = "refuse"
    """400: it finds fault with the request itself."""
    GARBAGE = "garbage"
    """What comes is not HTTP."""
    EMPTY = "empty"
    """A stream that ends without content."""
    CUT = "cut"
    """The answer breaks off after its first content."""
    SLOW = "slow"
    """Everything takes `factor` times as long."""


class Fault(Settings, frozen=True):
    """What goes wrong with upstreams, from when to when."""

    upstream: str
    """A name, or a pattern: `gpu-*`."""
    kind: Kind = Kind.DIE
    at: Seconds | None = None
    """Default: from the beginning."""
    until: Seconds | None = None
    """Default: to the end, and beyond."""
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Of the requests, where that makes sense: not for `die` and `vanish`."""
    factor: Annotated[float, Meta(ge=1, le=10_000)] = 10.0
    """For `slow`."""
    retry_after: Seconds | None = None
    """What `overload` and `rate_limit` say. Default: nothing."""


class Change(Settings, frozen=True):
    """A reload that changes weights."""

    at: Seconds
    model: str
    """As it is configured, patterns too."""
    weights: dict[str, Annotated[float, Meta(ge=0, le=1_000_000)]]
    """Of members, by upstream; the others keep theirs. 0 drains."""


class Scenario(Settings, frozen=True, kw_only=True):
    """The whole file."""

    duration: Seconds
    """How long clients come. What is under way then still ends."""
    seed: Annotated[int, Meta(ge=0)] = 0
    """The same seed gives the same result to the last byte."""
    traffic: tuple[Traffic, ...]
    behaviour: Behaviour = Behaviour()
    """Of upstreams that are not named below."""
    upstreams: dict[str, Behaviour] = {}  # noqa: RUF012 (msgspec gives each struct its own)
    """By name or pattern; the exact name wins, then the longest pattern."""
    faults: tuple[Fault, ...] = ()
    reloads: tuple[Change, ...] = ()


def load(config_path: Path, scenario_path: Path) -> tuple[Config, Scenario]:
    """Read and check both files.

    Raises:
        ConfigError: With every fault of the configuration, or else every fault of the scenario.
    """
    config = loader.load_without_secrets(config_path)
    report = Report(str(scenario_path))
    scenario = _read(scenario_path, Scenario, report)
    if scenario is not None:
        check(scenario, config, report)
    if scenario is None or report.count:
        raise ConfigError(report.lines())
    return config, scenario


def check(scenario: Scenario, config: Config, report: Report) -> None:
    """Report what the scenario names that the configuration does not have, and times that contradict each other."""
    models = PatternMap({name: name for name in config.models})
    requests = 0.0
    if not scenario.traffic and report.is_clean(("traffic",)):
        report.add(("traffic",), "is empty; somebody must ask for something")
    for index, traffic in enumerate(scenario.traffic):
        path = ("traffic", index)
        if models.find(traffic.model) is None:
            report.add(
                (*path, "model"), f"no model serves {traffic.model!r}{report.suggest(traffic.model, models_of(config))}"
            )
        _check_key(traffic, config, (*path, "key"), report)
        end = min(traffic.until or scenario.duration, scenario.duration)
        if end <= (traffic.start or 0.0) and report.is_clean(path):
            report.add(
                (*path, "until" if traffic.until else "start"), "nobody would ever come: it ends before it begins"
            )
        requests += traffic.rate * max(0.0, end - (traffic.start or 0.0))
    if requests > REQUESTS_MAX and report.is_clean(("traffic",)):
        report.add(("duration",), f"asks for {requests:,.0f} requests; at most {REQUESTS_MAX:,} can be simulated")
    for name in scenario.upstreams:
        _check_upstream(name, ("upstreams", name), config, report)
    for index, fault in enumerate(scenario.faults):
        _check_upstream(fault.upstream, ("faults", index, "upstream"), config, report)
        if fault.until is not None and fault.until <= (fault.at or 0.0) and report.is_clean(("faults", index)):
            report.add(("faults", index, "until"), "is not after `at`")
    for index, change in enumerate(scenario.reloads):
        _check_change(change, index, config, report)


def models_of(config: Config) -> tuple[str, ...]:
    """The models that have a name of their own."""
    return tuple(name for name in config.models if "*" not in name)


def matching(pattern: str, config: Config) -> tuple[str, ...]:
    """The upstreams that a name or pattern stands for."""
    found = PatternMap({pattern: True})
    return tuple(name for name in config.upstreams if found.find(name))


def _check_key(traffic: Traffic, config: Config, path: tuple[str | int, ...], report: Report) -> None:
    if traffic.key is None:
        if config.keys:
            report.add(path, f"is missing; the configuration has {', '.join(list(config.keys)[:5])}")
        return
    key = config.keys.get(traffic.key)
    if key is None:
        report.add(path, f"no key is named {traffic.key!r}{report.suggest(traffic.key, config.keys)}")
    elif key.disabled or PatternMap(dict.fromkeys(key.models, True)).find(traffic.model) is None:
        report.add(path, f"{traffic.key!r} {'is disabled' if key.disabled else 'may not use the model'}")


def _check_upstream(name: str, path: tuple[str | int, ...], config: Config, report: Report) -> None:
    if not matching(name, config):
        report.add(path, f"no upstream is named {name!r}{report.suggest(name, config.upstreams)}")


def _check_change(change: Change, index: int, config: Config, report: Report) -> None:
    path = ("reloads", index)
    model = config.models.get(change.model)
    if model is None:
        report.add((*path, "model"), f"no model is named {change.model!r}{report.suggest(change.model, config.models)}")
        return
    members = {member.upstream for member in model.pool}
    for name in change.weights:
        if name not in members:
            where = (*path, "weights", name)
            report.add(where, f"{change.model!r} has no member at {name!r}{report.suggest(name, members)}")


def _read(path: Path, kind: type[S], report: Report) -> S | None:
    try:
        text = Sources().read(path.absolute()).decode("utf-8-sig")
        return convert.settings(yaml_nodes.compose(text), kind, report)
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from None
    except UnicodeDecodeError:
        report.add((), "not UTF-8 text", Mark(1, 1))
    except yaml_nodes.SyntaxFault as fault:
        report.add((), fault.text, fault.mark)
    return None
