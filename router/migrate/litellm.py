"""LiteLLM's `config.yaml` becomes a configuration of ours.

Entries of `model_list` with one `model_name` become one pool (`litellm_deployments` reads them); `router_settings` and
`litellm_settings` become what all of them inherit. Chats are translated between protocols, as LiteLLM does it.

Where LiteLLM differs by default, this follows LiteLLM: port 4000, weights taken from `rpm` or `tpm` where no `weight`
is given. What is different here is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from router.config import values, yaml_nodes
from router.config.values import BadValue
from router.migrate import litellm_deployments, litellm_reasons
from router.migrate.account import Account, Unusable
from router.migrate.draft import Draft
from router.migrate.litellm_models import ANY, Models
from router.migrate.litellm_providers import PROVIDERS
from router.migrate.yaml_source import ENVIRON, Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from router.config.yaml_nodes import Node
    from router.migrate.litellm_deployments import Deployment

PORT: Final = 4000
"""Where LiteLLM listens unless its command line says otherwise."""
MASTER_KEY: Final = "LITELLM_MASTER_KEY"
"""The variable of LiteLLM's own for it."""

_READ: Final = ("model_list", "router_settings", "litellm_settings", "general_settings")

NEEDLESS_WORDS: Final = {
    "prometheus": "metrics are always there, on the `admin` address",
}
"""Callbacks that the router needs none for."""

NEEDLESS: Final = {
    ("set_verbose", False): "the log holds one line for each request",
    ("json_logs", True): "the log is JSON",
    ("telemetry", False): "the router tells nobody anything",
    ("telemetry", True): "the router tells nobody anything",
    ("turn_off_message_logging", True): "the log never holds what is said",
    ("redact_messages_in_exceptions", True): "the log never holds what is said",
    ("cache", False): "nothing is cached",
    ("enable_pre_call_checks", False): "none are made",
    ("enable_tag_filtering", False): "there are no tags",
    ("disable_cooldowns", False): "members that fail are always passed over",
    ("drop_params", False): "requests are sent as clients write them",
    ("modify_params", False): "requests are sent as clients write them",
    ("store_model_in_db", False): "models stand in the file",
    ("background_health_checks", False): "there are none",
    ("disable_spend_logs", True): "costs are counted in log and metrics alone",
    ("forward_client_headers_to_llm_api", True): "they are forwarded; see `headers.allow` of an upstream",
    ("cancel_on_disconnect", True): "a request ends when its client goes",
    ("store_prompts_in_spend_logs", False): "the log never holds what is said",
}
"""Settings that say what is so here in any case."""


def convert(root: Node, account: Account, environ: Mapping[str, str]) -> Draft:
    """Make a draft of a file that was read, and tell what became of each of its settings."""
    whole = Setting(root, (), 1, account, {**environ, **_variables_given(root)})
    maker = _Maker()
    maker.draft.variables |= set(_names(root)) | {MASTER_KEY}
    maker.draft.variables |= {each.variable for each in PROVIDERS.values() if each.variable}
    whole.leave_flaws()
    if not isinstance(root, yaml_nodes.Mapping):
        whole.leave("it holds no settings")
    maker.read(whole.entries())
    account.settle(whole.leaves(), "nothing of this kind is expected at this place")
    return maker.draft


def _variables_given(root: Node) -> dict[str, str]:
    """The variables that the file itself sets; none of their values is ever written."""
    entry = root.entries.get("environment_variables") if isinstance(root, yaml_nodes.Mapping) else None
    given = entry.node.entries if entry and isinstance(entry.node, yaml_nodes.Mapping) else {}
    return {name: each.node.text for name, each in given.items() if isinstance(each.node, yaml_nodes.Scalar)}


def _names(node: Node) -> Iterator[str]:
    """Yield the variables that a file refers to."""
    if isinstance(node, yaml_nodes.Scalar):
        if node.text.startswith(ENVIRON):
            yield node.text.removeprefix(ENVIRON)
        return
    items = node.items if isinstance(node, yaml_nodes.Sequence) else [each.node for each in node.entries.values()]
    for item in items:
        yield from _names(item)


@dataclass(slots=True)
class _Maker:
    """Sections in, draft out."""

    draft: Draft = field(default_factory=Draft)
    is_shuffled: bool = True
    """Whether members are drawn by weight, so that `rpm` or `tpm` are weights where there is no other."""
    fallbacks: list[tuple[str, Setting]] = field(default_factory=list)
    """Model, or `ANY`, and the name of a fallback."""
    aliases: list[Setting] = field(default_factory=list)
    given: set[str] = field(default_factory=set)
    """Names of settings that were carried: both sections have some of them, and the first one counts."""

    def read(self, sections: dict[str, Setting]) -> None:
        deployments: list[Deployment] = []
        for item in sections["model_list"].items() if "model_list" in sections else ():
            deployment = litellm_deployments.read(item)
            deployments += [deployment] if deployment else []
        for name, reasons, otherwise in (
            ("router_settings", litellm_reasons.ROUTER, litellm_reasons.ROUTER_SETTING),
            ("litellm_settings", litellm_reasons.LITELLM, litellm_reasons.LITELLM_SETTING),
            ("general_settings", litellm_reasons.GENERAL, litellm_reasons.GENERAL_SETTING),
        ):
            if name in sections:
                self._read_section(sections[name], reasons, otherwise)
        models = Models(self.draft)
        models.add(deployments, is_shuffled=self.is_shuffled)
        models.add_aliases(self.aliases)
        models.add_fallbacks(self.fallbacks)
        for name, section in sections.items():
            if name not in _READ:
                self._leave_section(name, section)
        listen, admin = self.draft.listen(PORT)
        self.draft.others |= {"listen": listen, "admin": admin}

    def _leave_section(self, name: str, section: Setting) -> None:
        if name != "environment_variables":
            section.leave(litellm_reasons.SECTIONS.get(name, litellm_reasons.SECTION))
            return
        needed = self.draft.environment()
        for variable, each in section.entries().items():
            each.leave("set it in the router's environment" if variable in needed else "nothing here reads it")

    def _read_section(self, section: Setting, reasons: Mapping[str, str], otherwise: str) -> None:
        for name, setting in section.entries().items():
            try:
                if self._needless(name, setting):
                    continue
                handler = _HANDLERS.get(name)
                if handler is None:
                    setting.leave(reasons.get(name, otherwise))
                elif name in self.given:
                    setting.leave("router_settings gives it too, which counts")
                else:
                    handler(self, setting)
                    self.given.add(name)
            except (Unusable, BadValue) as error:
                setting.leave(str(error))

    def _needless(self, name: str, setting: Setting) -> bool:
        """Tell of a setting that says what is so in any case, and of the items of a list that do."""
        for item in setting.items() if name.endswith(("callback", "callbacks")) else ():
            word = item.node.text if isinstance(item.node, yaml_nodes.Scalar) else ""
            if word in NEEDLESS_WORDS:
                item.change(f"needless: {NEEDLESS_WORDS[word]}")
            else:
                item.leave(litellm_reasons.LITELLM["callbacks"])
        if setting.items() and name.endswith(("callback", "callbacks")):
            return True
        if not any((name, value) in NEEDLESS for value in (True, False)):
            return False
        reason = NEEDLESS.get((name, setting.flag()))
        if reason:
            setting.change(f"needless: {reason}")
        return reason is not None


def _retries(maker: _Maker, setting: Setting) -> None:
    attempts = setting.number() + 1
    if attempts != attempts.to_integral_value() or attempts < 1:
        raise Unusable("it is not a number of retries")
    maker.draft.defaults["retry"] = {"attempts": int(min(attempts, Decimal(10)))}
    if attempts > 10:
        setting.change("more than 10 tries are never made")
    setting.carry()


def _timeout(maker: _Maker, setting: Setting) -> None:
    if "timeout" in maker.given or "request_timeout" in maker.given:
        raise Unusable("router_settings gives it too, which counts")
    text = litellm_deployments.duration(setting)
    timeouts = maker.draft.defaults.setdefault("timeouts", {})
    for name in ("first_byte", "first_token", "idle"):
        timeouts.setdefault(name, text)
    setting.change(
        "the deadline for the first byte, the first token and the next bytes of an answer; all tries together"
        " have `total`"
    )


def _stream_timeout(maker: _Maker, setting: Setting) -> None:
    timeouts = maker.draft.defaults.setdefault("timeouts", {})
    timeouts["first_token"] = litellm_deployments.duration(setting)
    setting.carry()


def _allowed_fails(maker: _Maker, setting: Setting) -> None:
    fails = setting.number() + 1
    if fails != fails.to_integral_value() or not 1 <= fails <= 1_000_000:
        raise Unusable("it is not a number of failures")
    maker.draft.defaults.setdefault("ejection", {})["consecutive"] = int(fails)
    setting.change("failures in a row, of any age, where LiteLLM counts those of a minute")


def _cooldown(maker: _Maker, setting: Setting) -> None:
    ejection = maker.draft.defaults.setdefault("ejection", {})
    seconds = values.seconds(float(setting.number()))
    ejection["eject"] = values.show_seconds(seconds)
    if seconds > 300:
        ejection["eject_max"] = ejection["eject"]
    setting.change("the first time; each further failure doubles it, up to `eject_max`")


def _strategy(maker: _Maker, setting: Setting) -> None:
    strategy = setting.text()
    maker.is_shuffled = strategy == "simple-shuffle"
    if strategy == "least-busy":
        maker.draft.defaults["choose"] = "least_in_flight"
    elif not maker.is_shuffled:
        raise Unusable("members are drawn by weight, and of two the one with less in flight is taken")
    setting.carry()


def _fallbacks(maker: _Maker, setting: Setting) -> None:
    for item in setting.items():
        for model, targets in item.entries().items():
            maker.fallbacks += [(model, target) for target in targets.items()]


def _default_fallbacks(maker: _Maker, setting: Setting) -> None:
    maker.fallbacks += [(ANY, target) for target in setting.items()]


def _alias(maker: _Maker, setting: Setting) -> None:
    maker.aliases += setting.entries().values()


def _master_key(maker: _Maker, setting: Setting) -> None:
    variable = setting.variable()
    maker.draft.keys["master"] = {"secret": {"env": variable or MASTER_KEY}}
    if variable is None:
        setting.change(f"a secret: it is not written; set {MASTER_KEY} in the router's environment to it")
    setting.carry()


def _size_max(maker: _Maker, setting: Setting) -> None:
    size = values.size(f"{setting.number():f}MiB")
    maker.draft.requests["body_max"] = values.show_size(size)
    if size > 1024 * 1024 * 1024:
        maker.draft.requests["bodies_total_max"] = maker.draft.requests["body_max"]
    setting.carry()


_HANDLERS: Final[dict[str, Callable[[_Maker, Setting], None]]] = {
    "num_retries": _retries,
    "timeout": _timeout,
    "request_timeout": _timeout,
    "stream_timeout": _stream_timeout,
    "allowed_fails": _allowed_fails,
    "cooldown_time": _cooldown,
    "routing_strategy": _strategy,
    "fallbacks": _fallbacks,
    "default_fallbacks": _default_fallbacks,
    "model_group_alias": _alias,
    "master_key": _master_key,
    "max_request_size_mb": _size_max,
}
