"""nginx's `upstream` blocks become upstreams and pools of ours: servers, weights, and the names clients ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from router.config import values
from router.config.checks import NAME_MAX
from router.config.values import BadValue
from router.migrate import nginx_reasons as reasons
from router.migrate.account import Unusable
from router.migrate.draft import Draft, Settings, base_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.migrate.nginx_source import Place

_PARAMETER = re.compile(r"(weight|max_conns|max_fails|fail_timeout)=(.*)")
_NUMBER = re.compile("[0-9]{1,6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Servers that one `location` passes to, and how they are reached."""

    name: str
    """Of the `upstream` block, or the host that `proxy_pass` names itself."""
    scheme: str
    path: str
    settings: Settings
    """What all its upstreams have in common."""
    block: Place | None
    """None: there is one server, which is named itself."""
    passing: Place
    """The directive that passes to it."""

    @property
    def way(self) -> tuple[str, str, Settings]:
        """How its servers are reached."""
        return self.scheme, self.path, self.settings


@dataclass(slots=True)
class Pools:
    """The pools of a file, added to a draft when all are known."""

    draft: Draft
    pools: dict[str, Pool] = field(default_factory=dict)
    _failures: list[tuple[tuple[int, str], list[Place]]] = field(default_factory=list)

    def add(self, pool: Pool) -> None:
        """Take in a pool, or another way to the same one.

        Raises:
            Unusable, BadValue: None of its servers can be carried, or it is reached in another way already.
        """
        known = self.pools.get(pool.name)
        if known is not None and known.way != pool.way:
            raise Unusable(f"it passes to {pool.name} in another way than line {known.passing.line}, which counts")
        if pool.block is None:
            base_url(f"{pool.scheme}://{pool.name}{pool.path}")
        elif not any(_is_usable(each, pool) for each in pool.block.inside()):
            raise Unusable("its upstream has no server that can be carried")
        self.pools.setdefault(pool.name, pool)

    def add_models(self, models: Mapping[str, str]) -> None:
        """Give each pool its upstreams, and the names by which clients ask for it."""
        unknown = sorted(set(models.values()) - set(self.pools))
        if unknown:
            known = ", ".join(self.pools) or "none"
            raise Unusable(f"no upstream named {unknown[0]!r} is carried; those that are: {known}")
        for pool in self.pools.values():
            names = [model for model, name in models.items() if name == pool.name]
            if not names:
                names = ["*"] if len(self.pools) == 1 else [self._named(pool, models)]
            settings = self._servers(pool)
            for name in names:
                self.draft.models[name] = settings
        self._read_failures()

    def _named(self, pool: Pool, taken: Mapping[str, str]) -> str:
        name = "".join(sign for sign in pool.name if sign.isprintable()).strip()[: NAME_MAX // 2].strip() or "model"
        while name in taken or name in self.draft.models:
            name += "-2"
        place = pool.block or pool.passing
        place.account.change(
            (*place.path, "name"),
            place.line,
            "clients ask for it by this name, as a model, which is also asked of the servers; --model gives another",
        )
        return name

    def _servers(self, pool: Pool) -> Settings:
        """Add the upstreams of a pool; returns the model that it serves."""
        common = dict(pool.settings)
        if pool.block is None:
            url = base_url(f"{pool.scheme}://{pool.name}{pool.path}")
            return {"pool": [{"upstream": self.draft.add_upstream(pool.name, {"base_url": url} | common)}]}
        members = []
        inside = pool.block.inside()
        servers = [place for place in inside if _is_usable(place, pool)]
        model: Settings = {"choose": "round_robin"}
        for place in inside:
            if place not in servers:
                self._read_balancing(place, common, model)
        for number, server in enumerate(servers, 1):
            settings = {"base_url": _base_url(server, pool)} | common
            member = self._read_parameters(server, settings)
            hint = pool.name if len(servers) == 1 else f"{pool.name}-{number}"
            members.append({"upstream": self.draft.add_upstream(hint, settings)} | member)
            server.carry()
        return {"pool": members} | model

    @staticmethod
    def _read_balancing(place: Place, common: Settings, model: Settings) -> None:
        """Read what an `upstream` block says beside its servers."""
        name, args = place.name, place.args
        if name == "server":
            place.leave("an upstream is reached over the network, at a host and a port")
        elif name == "least_conn":
            model["choose"] = "least_in_flight"
            place.carry()
        elif name == "random" and (not args or args[0] == "two"):
            model["choose"] = "two_choices"
            place.carry()
        elif name == "keepalive" and args and args[0].isdecimal() and len(args[0]) < 7:
            common["idle_connections"] = int(args[0])
            place.carry()
        elif name == "keepalive_timeout":
            text = place.duration()
            if text is not None:
                common["keepalive"] = text
                place.carry()
        else:
            place.tell()

    def _read_parameters(self, server: Place, settings: Settings) -> Settings:
        """Read what follows a server's address: settings of the upstream, and those of the member, returned."""
        member: Settings = {}
        failures: list[Place] = []
        limits = {"max_fails": "1", "fail_timeout": "10s"}
        for parameter in server.parameters():
            found = _PARAMETER.fullmatch(parameter.name)
            name, value = (found[1], found[2]) if found else (parameter.name, "")
            number = int(value) if _NUMBER.fullmatch(value) else 0
            if name == "weight" and number:
                member["weight"] = number
            elif name == "max_conns" and number:
                settings["limits"] = {"concurrency": number}
            elif name == "backup":
                member["tier"] = 2
            elif name == "down":
                member["weight"] = 0
            elif name in limits:
                limits[name] = value
                failures.append(parameter)
                continue
            elif name == "resolve":
                parameter.change("needless: a name is looked up for each connection")
            elif name != "max_conns" or value != "0":
                parameter.leave(reasons.DIRECTIVES.get(name, "there is nothing like it here"))
                continue
            parameter.carry()
        if failures:
            fails = int(limits["max_fails"]) if _NUMBER.fullmatch(limits["max_fails"]) else 0
            self._failures.append(((fails, limits["fail_timeout"]), failures))
        return member

    def _read_failures(self) -> None:
        """Carry when a server is taken out, if all that say it agree: it holds for every upstream here."""
        given = {limits for limits, _ in self._failures}
        fails, rest = next(iter(given), (0, ""))
        for _, parameters in self._failures:
            for parameter in parameters:
                text = parameter.duration(rest)
                if len(given) > 1:
                    parameter.leave("it is one for all upstreams, under `defaults.ejection`, and these differ")
                elif not fails:
                    parameter.leave("a server that fails is always taken out: `defaults.ejection` says when")
                elif text is not None:
                    ejection = {"consecutive": fails, "eject": text}
                    ejection |= {"eject_max": text} if values.seconds(text) > 300 else {}
                    self.draft.defaults["ejection"] = ejection
                    parameter.change("for all upstreams: failures in a row, and the first time out; later ones double")


def _is_usable(server: Place, pool: Pool) -> bool:
    try:
        return server.name == "server" and bool(_base_url(server, pool))
    except (Unusable, BadValue):
        return False


def _base_url(server: Place, pool: Pool) -> str:
    if not server.args or server.args[0].startswith("unix:"):
        raise Unusable("an upstream is reached over the network")
    address = server.args[0]
    has_port = re.search(r":[0-9]+$", address.rpartition("]")[2]) is not None
    return base_url(f"{pool.scheme}://{address}{'' if has_port else ':80'}{pool.path}")
