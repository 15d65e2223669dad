"""One entry of LiteLLM's `model_list`: where its requests go, with what credential, and its share of a model.

LiteLLM gives limits, deadlines and headers to each deployment; here they belong to upstreams. So deployments share an
upstream if they agree in all of that, and one with limits of its own shares it only with those of the same model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from router.config import addresses, upstream_checks, values, yaml_nodes
from router.config.checks import NAME_MAX, is_name
from router.config.dump import SENSITIVE
from router.config.presets import PRESETS
from router.config.values import BadValue
from router.migrate import litellm_reasons as reasons
from router.migrate.account import Unusable
from router.migrate.draft import Settings, base_url
from router.migrate.litellm_providers import PROVIDERS, split

if TYPE_CHECKING:
    from router.migrate.yaml_source import Setting

LIMITS: Final = {
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "max_parallel_requests": "concurrency",
}
_MILLION: Final = Decimal(1_000_000)
PRICES: Final[dict[str, tuple[str, Decimal]]] = {
    "input_cost_per_token": ("input", _MILLION),
    "output_cost_per_token": ("output", _MILLION),
    "cache_read_input_token_cost": ("cached_input", _MILLION),
    "cache_creation_input_token_cost": ("cache_write", _MILLION),
    "cache_creation_input_token_cost_above_1hr": ("cache_write_long", _MILLION),
    "input_cost_per_audio_token": ("audio_input", _MILLION),
    "output_cost_per_audio_token": ("audio_output", _MILLION),
    "input_cost_per_image_token": ("image_input", _MILLION),
    "input_cost_per_character": ("characters", _MILLION),
    "input_cost_per_image": ("image", Decimal(1)),
    "output_cost_per_image": ("image", Decimal(1)),
    "input_cost_per_second": ("second", Decimal(1)),
    "input_cost_per_query": ("search", Decimal(1)),
}
"""A price of LiteLLM's: its name under `price`, and by what it is multiplied."""

PLACEHOLDERS: Final = frozenset({
    "", "-", "anything", "dummy", "dummy-key", "empty", "fake", "fake-key", "key", "na", "no-key", "no-key-required",
    "none", "not-needed", "not-required", "null", "placeholder", "sk-no-key-required", "test", "xxx", "xxxx",
})  # fmt: skip
"""What people write for a server that wants no credential."""

NEEDLESS: Final = {
    "mode": "the endpoint that a client calls says what is meant",
    "description": "nothing but words",
}
"""Under `model_info`, of no effect here and needing none; so is whatever begins with `supports_`."""

_AZURE_V1: Final = frozenset({"v1", "preview", "latest"})


@dataclass(slots=True)
class Deployment:
    """One way to serve a model, as it is to be written."""

    setting: Setting
    name: str
    """What clients write."""
    target: str
    """The model's name there. A `*` in it is the client's own name."""
    hint: str
    """What its upstream may be called."""
    upstream: Settings
    """Without the credential."""
    variable: str | None
    """Holds the credential."""
    secret: str | None = field(repr=False)
    """The credential, where it stood in the file itself."""
    shares: dict[str, Decimal] = field(default_factory=dict)
    """`weight`, `rpm` and `tpm`, as far as they are given."""
    order: Decimal | None = None
    prices: dict[str, tuple[Decimal, Setting]] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[object, ...]:
        """Deployments that agree in it may share an upstream."""
        limited = self.target if "limits" in self.upstream else None
        return json.dumps(self.upstream, sort_keys=True), self.variable, self.secret, limited


def read(item: Setting) -> Deployment | None:
    """Read an entry; None if it cannot be carried, which is told."""
    name, params = item.get("model_name"), item.get("litellm_params")
    if name is None or params is None:
        item.leave("with all below it: it has no model_name, or no litellm_params")
        return None
    try:
        deployment = _routed(item, name, params)
    except (Unusable, BadValue) as error:
        item.leave(f"with all below it: {error}")
        return None
    name.carry()
    outside = [setting for name, setting in item.entries().items() if name in LIMITS]  # for no more than limits
    for setting in (*params.entries().values(), *outside):
        _attempt(setting, deployment)
    for setting in _info(item):
        _attempt_info(setting, deployment)
    return deployment


def _routed(item: Setting, name_setting: Setting, params: Setting) -> Deployment:
    """Find where requests go; whatever goes wrong here keeps the whole entry from being carried."""
    name, model, given = name_setting.text(), params.get("model"), params.get("custom_llm_provider")
    if model is None:
        raise Unusable("litellm_params names no model")
    provider, target = split(model.text(), given.text() if given else None)
    for text in (name, target):
        if not is_name(text):
            raise Unusable(f"a name has 1 to {NAME_MAX} printable characters, with no space at its ends")
    if "*" in target and target != name:
        raise Unusable(
            "a pattern keeps the name that the client wrote, and another one would be needed there:"
            " name the models that are used one by one"
        )
    if params.get("litellm_credential_name") is not None:
        raise Unusable(reasons.SECTIONS["credential_list"])
    for blocked in (item.get("blocked"), *(each for each in _info(item) if each.path[-1] == "blocked")):
        if blocked is not None and blocked.flag():
            raise Unusable("it is blocked there, so nothing is sent to it")
        if blocked is not None:
            blocked.carry()
    upstream, hint, is_foreign = _address(provider, target, params)
    variable, secret = _credential(provider, params, is_foreign=is_foreign)
    if is_foreign and PROVIDERS[provider].variable and params.get("api_key") is None:
        name_setting.change(
            f"without api_key LiteLLM would send {PROVIDERS[provider].variable} there; here nothing is sent:"
            " give api_key if it wants one"
        )
    for setting in (model, given, params.get("api_base") or params.get("base_url"), params.get("api_key")):
        if setting is not None:
            setting.carry()
    return Deployment(item, name, target, hint, upstream, variable, secret)


def _address(provider: str, target: str, params: Setting) -> tuple[Settings, str, bool]:
    """Return the upstream's settings, a name for it, and whether OpenAI's API is expected of somebody else."""
    kind = PROVIDERS[provider]
    setting = params.get("api_base") or params.get("base_url")
    if setting is None:
        if provider.startswith("azure") or not (
            kind.base_url or (kind.preset and PRESETS[kind.preset].get("base_url"))
        ):
            raise Unusable("where it is must be known: give api_base")
        settings: Settings = {"preset": kind.preset} if kind.preset else {"base_url": kind.base_url}
        return settings, provider, False
    url = base_url(setting.text().strip())
    hint = f"{provider}-{_host(url)}"
    if provider.startswith("azure"):
        return _azure(url, target, params), hint, False
    if provider == "gemini":
        raise Unusable("api_base is that of Gemini's own API, which is not carried; leave it out")
    url = url.removesuffix("/messages") if kind.path and provider == "anthropic" else url
    if kind.path and not url.endswith(kind.path):
        url += kind.path
    if url == (PRESETS[kind.preset].get("base_url") if kind.preset else None):
        return {"preset": kind.preset}, provider, False
    if kind.preset == "openai":
        return {"base_url": url}, hint, True
    return ({"preset": kind.preset} if kind.preset else {}) | {"base_url": url}, hint, False


def _azure(url: str, target: str, params: Setting) -> Settings:
    """Azure's dated face, or its v1 face, where the model is the name of a deployment in both."""
    if "/" in target:
        raise Unusable("what stands before the deployment's name is a route of LiteLLM's own: leave it out")
    setting = params.get("api_version")
    version = setting.text() if setting else None
    path = urlsplit(url).path.rstrip("/")
    if path not in {"", "/openai", "/openai/v1"}:
        raise Unusable("api_base must end with the host of the Azure resource")
    url = url.removesuffix(path)
    if version is not None and not (version and version.isprintable() and len(version) <= NAME_MAX):
        raise Unusable("api_version is not a version")
    if setting:
        setting.carry()
    if path == "/openai/v1" or version in _AZURE_V1:
        query = {"query": {"api-version": version}} if version and version != "v1" else {}
        return {"preset": "azure", "base_url": f"{url}/openai/v1", **query}
    query = {"query": {"api-version": version}} if version else {}
    return {"preset": "azure-dated", "base_url": f"{url}/openai", **query}


def _credential(provider: str, params: Setting, *, is_foreign: bool) -> tuple[str | None, str | None]:
    """Return the variable that holds the credential, or the credential itself where the file has it."""
    setting, usual = params.get("api_key"), PROVIDERS[provider].variable
    if setting is None:
        return (None if is_foreign else usual), None
    name = setting.variable()
    if name is not None:
        return name, None
    text = setting.text().strip()
    if text.lower() in PLACEHOLDERS and (usual is None or is_foreign):
        setting.change("it looks like no credential at all: none is sent")
        return None, None
    if not text:
        raise Unusable("api_key is empty")
    return None, text


def _info(item: Setting) -> list[Setting]:
    info = item.get("model_info")
    return list(info.entries().values()) if info else []


def _attempt(setting: Setting, deployment: Deployment) -> None:
    """Carry one of `litellm_params`, or tell why not."""
    name = str(setting.path[-1])
    if setting.account.fate(setting.path) is not None:
        return
    try:
        if _param(name, setting, deployment):
            setting.carry()
        else:
            reason = reasons.PRICE if "cost" in name else reasons.PARAM
            setting.leave(reasons.PARAMS.get(name, reason))
    except (Unusable, BadValue) as error:
        setting.leave(str(error))


def _param(name: str, setting: Setting, deployment: Deployment) -> bool:
    """Carry one of `litellm_params`; False if nothing here is like it."""
    if name in LIMITS:
        count = values.count(_whole(setting))
        if count < 1:
            raise Unusable("must be at least 1")
        deployment.upstream.setdefault("limits", {})[LIMITS[name]] = values.show_count(count)
        if name != "max_parallel_requests" and "litellm_params" in setting.path:
            deployment.shares[name] = Decimal(count)
    elif name == "weight":
        weight = setting.number()
        if not 0 <= weight <= 1_000_000:
            raise Unusable("a weight is a number from 0 to 1000000")
        deployment.shares[name] = weight
    elif name == "order":
        deployment.order = setting.number()
    elif name in {"timeout", "stream_timeout"}:
        _deadline(name, duration(setting), deployment.upstream.setdefault("timeouts", {}))
    elif name in {"extra_headers", "headers"} and setting.entries():
        _headers(setting, deployment)
    elif name == "organization":
        _header("openai-organization", setting, deployment)
    elif name == "additional_drop_params":
        _drops(setting, deployment)
    elif name == "drop_params" and not setting.flag():
        pass  # nothing is left out here either
    elif name in PRICES:
        _price(name, setting, deployment)
    else:
        return False
    return True


def _attempt_info(setting: Setting, deployment: Deployment) -> None:
    """Carry one of `model_info`, or tell why not."""
    name = str(setting.path[-1])
    if setting.account.fate(setting.path) is not None:
        return
    try:
        if name in PRICES:
            _price(name, setting, deployment)
            setting.carry()
        elif name in NEEDLESS or name.startswith("supports_"):
            setting.change(f"needless: {NEEDLESS.get(name, 'what a model can do is left to its upstream to say')}")
        else:
            reason = reasons.PRICE if "cost" in name else reasons.MODEL
            setting.leave(reasons.INFO.get(name, reason))
    except (Unusable, BadValue) as error:
        setting.leave(str(error))


def duration(setting: Setting) -> str:
    """Read a number of seconds and return it as durations are written here.

    Raises:
        Unusable, BadValue: It is none.
    """
    return values.show_seconds(values.seconds(float(setting.number())))


def _deadline(name: str, text: str, timeouts: Settings) -> None:
    """LiteLLM's deadline is for the next bytes of an answer: it cuts no stream that flows, so it is not `total`."""
    if name == "stream_timeout":
        timeouts["first_token"] = text
        return
    timeouts |= {"first_byte": text, "idle": text}
    timeouts.setdefault("first_token", text)


def _headers(setting: Setting, deployment: Deployment) -> None:
    for name, each in setting.entries().items():
        try:
            _header(name, each, deployment)
            each.carry()
        except Unusable as error:
            each.leave(str(error))


def _header(name: str, setting: Setting, deployment: Deployment) -> None:
    if SENSITIVE.search(name):
        raise Unusable("it may be a credential, which only api_key can hold here")
    value, headers = setting.text(), deployment.upstream.get("headers", {}).get("set", {})
    flaw = upstream_checks.header_flaw(name, value)
    if flaw or name.lower() in (given.lower() for given in headers):
        raise Unusable(f"the header {flaw or 'is set already'}")
    deployment.upstream["headers"] = {"set": headers | {name: value}}


def _drops(setting: Setting, deployment: Deployment) -> None:
    names: list[str] = deployment.upstream.setdefault("drop_params", [])
    for each in setting.items():
        text = each.text()
        if not text.isidentifier() or text in upstream_checks.NEEDED_PARAMS or len(text) > NAME_MAX:
            each.leave("only members at the top of a request can be left out, and not model or stream")
        else:
            names.append(text)
            each.carry()
    if not names:
        del deployment.upstream["drop_params"]


def _price(name: str, setting: Setting, deployment: Deployment) -> None:
    ours, factor = PRICES[name]
    price = values.usd(f"{setting.number() * factor:f}")
    known = deployment.prices.get(ours)
    if known is not None and known[0] != price:
        raise Unusable(f"another price of this kind stands on line {known[1].line}")
    deployment.prices[ours] = (price, setting)


def _whole(setting: Setting) -> yaml_nodes.Resolved:
    number = setting.number()
    return int(number) if number == number.to_integral_value() else float(number)


def _host(url: str) -> str:
    """Return what tells a host from others, for a name: the first label, or the whole address and its port."""
    base = addresses.base_url(url)
    is_name = base.host[:1].isalpha() and "." in base.host
    return base.host.split(".")[0] if is_name else f"{base.host}-{base.port}"
