"""Deployments of LiteLLM's become pools of ours: shares and tiers of members, prices, other names, fallbacks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from router.config import schema, values
from router.config.checks import is_name, serving
from router.migrate.account import Unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from router.migrate.draft import Draft, Settings
    from router.migrate.litellm_deployments import Deployment
    from router.migrate.yaml_source import Setting

ANY = "*"
"""A model that stands for every one that has no fallbacks of its own."""


@dataclass(slots=True)
class Models:
    """Adds upstreams and models to a draft."""

    draft: Draft

    def add(self, deployments: Iterable[Deployment], *, is_shuffled: bool) -> None:
        """Add every deployment to the pool of its name; whether members are drawn by weight, `_members` explains."""
        groups: dict[str, list[Deployment]] = defaultdict(list)
        names: dict[tuple[object, ...], str] = {}
        for deployment in deployments:
            groups[deployment.name].append(deployment)
        for name, group in groups.items():
            members = _members(group, is_shuffled=is_shuffled)
            for deployment in group:
                if deployment.identity not in names:
                    names[deployment.identity] = self._add_upstream(deployment)
                elif deployment.secret is not None:
                    self._tell_secret(deployment)
            model: Settings = {"pool": _pool(group, members, names), "translate": True}
            price = _price(group)
            if price:
                model["price"] = price
            self.draft.models[name] = model

    def _add_upstream(self, deployment: Deployment) -> str:
        settings = dict(deployment.upstream)
        if deployment.secret is not None:
            settings["api_key"] = self.draft.reference(deployment.secret, deployment.hint)
            self._tell_secret(deployment)
        elif deployment.variable is not None:
            settings["api_key"] = {"env": deployment.variable}
        first = {name: settings.pop(name) for name in ("preset", "base_url", "api_key") if name in settings}
        return self.draft.add_upstream(deployment.hint, first | settings)

    def _tell_secret(self, deployment: Deployment) -> None:
        params = deployment.setting.get("litellm_params")
        setting = params.get("api_key") if params else None
        if setting is not None:
            name = self.draft.reference(deployment.secret or "", deployment.hint)["env"]
            setting.change(f"a secret: it is not written; set {name} in the router's environment to it")

    def add_aliases(self, aliases: Iterable[Setting]) -> None:
        """Add models that are other names of models."""
        for setting in aliases:
            try:
                self._add_alias(str(setting.path[-1]), setting)
            except Unusable as error:
                setting.leave(str(error))

    def _add_alias(self, alias: str, setting: Setting) -> None:
        models, model, hidden = self.draft.models, setting.get("model") or setting, setting.get("hidden")
        target, is_hidden = model.text(), hidden is not None and hidden.flag()
        served = serving(target, models)
        if served is None or not is_name(target) or "*" in target:
            raise Unusable("no model of this name is carried")
        if alias in models or not is_name(alias) or "*" in alias:
            raise Unusable("a model has this name already, or it cannot be a name here")
        models[alias] = models[served] | {
            "pool": [{"upstream": each["upstream"], "model": target} | each for each in models[served]["pool"]]
        }
        model.carry()
        if hidden is not None and is_hidden:
            hidden.leave("every model is listed")
        elif hidden is not None:
            hidden.carry()

    def add_fallbacks(self, fallbacks: Iterable[tuple[str, Setting]]) -> None:
        """Add to each model, or to `ANY`, the models that serve when its own members cannot."""
        fallbacks = list(fallbacks)
        own = {model for model, _ in fallbacks if model != ANY}
        for model, setting in fallbacks:
            models = [model] if model != ANY else [each for each in self.draft.models if each not in own]
            try:
                target = setting.text()
            except Unusable as error:
                setting.leave(str(error))
                continue
            carried = [self._add_fallback(each, target) for each in models]
            if not any(carried):
                setting.leave("one of the two models is not carried, or it would lead back to where it began")
            elif not all(carried) and model == ANY:
                setting.change("not for those models to which it would lead back")
            else:
                setting.carry()

    def _add_fallback(self, model: str, target: str) -> bool:
        models = self.draft.models
        served = serving(target, models)
        if model not in models or served is None or "*" in target or self._leads_to(served, model):
            return False
        fallbacks = models[model].setdefault("fallback", [])
        if target not in fallbacks:
            fallbacks.append(target)
        return True

    def _leads_to(self, start: str, end: str) -> bool:
        """Whether fallbacks lead from one model to another."""
        reached, ahead = {start}, [start]
        while ahead:
            for fallback in self.draft.models[ahead.pop()].get("fallback", ()):
                served = serving(fallback, self.draft.models)
                if served is not None and served not in reached:
                    reached.add(served)
                    ahead.append(served)
        return end in reached


def _members(group: list[Deployment], *, is_shuffled: bool) -> list[Settings]:
    """Return weight and tier of each deployment of a model.

    LiteLLM takes those of the lowest `order`; who has none is not taken beside one that has. Among them it draws by the
    first of `weight`, `rpm` and `tpm` that any has; who has none is taken when all others rest.
    """
    metrics = ("weight", "rpm", "tpm") if is_shuffled else ("weight",)
    metric = next((name for name in metrics if any(each.shares.get(name) for each in group)), None)
    places = [(each.order is None, each.order or 0, metric is not None and metric not in each.shares) for each in group]
    tiers = {place: number for number, place in enumerate(sorted(set(places)), 1)}
    smallest = min([each.shares[metric] for each in group if each.shares.get(metric)]) if metric else Decimal(1)
    members = []
    for deployment, place in zip(group, places, strict=True):
        share = deployment.shares.get(metric) if metric else None
        weight = (
            1.0 if share is None else float(share if metric == "weight" else min(share / smallest, Decimal(1_000_000)))
        )
        members.append({"weight": round(weight, 6), "tier": tiers[place]})
        name = deployment.setting.get("model_name")
        if name is not None and place[2]:
            name.change(f"others of this name have `{metric}`, and LiteLLM takes this one when they rest: a later tier")
    return members


def _pool(group: list[Deployment], members: list[Settings], names: Mapping[tuple[object, ...], str]) -> list[Settings]:
    """Return the members of a pool; those that are one and the same here become one."""
    pool: dict[tuple[str, str], Settings] = {}
    for deployment, settings in zip(group, members, strict=True):
        upstream = names[deployment.identity]
        known = pool.get((upstream, deployment.target))
        if known is None:
            model = {} if deployment.target == deployment.name else {"model": deployment.target}
            pool[upstream, deployment.target] = {"upstream": upstream, **model, **settings}
            continue
        if known["tier"] == settings["tier"]:
            known["weight"] = min(known["weight"] + settings["weight"], 1_000_000)
        name = deployment.setting.get("model_name")
        if name is not None:
            name.change("this one is the same as one before it: here they are one member, with both weights")
    usual = {"weight": 1.0, "tier": 1}
    return [{name: _short(value) for name, value in each.items() if usual.get(name) != value} for each in pool.values()]


def _short(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _price(group: list[Deployment]) -> Settings:
    """Return what a model costs: a price has one value here, whichever member serves."""
    prices: dict[str, tuple[Decimal, int]] = {}
    for deployment in group:
        for name, (price, setting) in deployment.prices.items():
            known = prices.setdefault(name, (price, setting.line))
            if known[0] != price:
                setting.leave(f"a model has one price here, that of line {known[1]}")
    return {name: values.show_usd(schema.Usd(price)) for name, (price, _) in prices.items()}
