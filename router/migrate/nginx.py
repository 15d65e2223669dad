"""A reverse proxy written for nginx becomes a configuration of ours: `upstream` blocks, and what passes to them.

Each server of an `upstream` is an upstream here, and all of them are the pool of a model. nginx chooses by path and we
by model, so a pool needs a name: the one that was asked for, else `*` (every name, as the client wrote it) if there is
one pool, else each pool the name of its `upstream` block. Paths all end at our `/v1`. No credential is ever copied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from router.config import addresses, upstream_checks, values
from router.config.dump import SENSITIVE
from router.config.values import BadValue
from router.migrate import nginx_reasons as reasons
from router.migrate.account import Account, Unusable
from router.migrate.draft import Draft, Settings, is_loopback
from router.migrate.nginx_pools import Pool, Pools
from router.migrate.nginx_source import Place, leaves, places, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from router.migrate.nginx_syntax import Directive

PORT: Final = 8080

_PASS = re.compile(r"(https?)://([^/$]+)(/[^$?]*)?")
_VERSION = re.compile(r"v[0-9]+[a-z0-9]*")
_BEARER = re.compile(r"[Bb]earer +(\S+)")
_CREDENTIALS: Final[dict[str, Settings]] = {
    "authorization": {}, "x-api-key": {"auth": "x-api-key"}, "api-key": {"auth": "api-key"},
}  # fmt: skip
"""Headers with a credential, and what says that it is sent so."""

_TRIES: Final = frozenset(str(tries) for tries in range(1, 11))
"""What `defaults.retry.attempts` takes."""
_TIMEOUTS: Final = {"proxy_connect_timeout": ("connect",), "proxy_read_timeout": ("first_byte", "first_token", "idle")}
_REQUESTS: Final = {
    "client_header_timeout": "head_timeout",
    "client_body_timeout": "body_timeout",
    "keepalive_timeout": "keepalive",
    "send_timeout": "write_timeout",
}
"""Durations that hold for all clients here."""


def convert(top: Sequence[Directive], account: Account, models: Mapping[str, str]) -> Draft:
    """Make a draft of a file that was read, and tell what became of each of its directives.

    Args:
        top: The file.
        account: Where fates are told.
        models: Names that clients ask for, each with the name of the `upstream` that serves it.

    Raises:
        Unusable: `models` names an upstream that is not carried.
    """
    maker = _Maker()
    outer = places(top, (), account)
    inner = [place for each in outer if each.name == "http" for place in each.inside()]
    maker.read([*outer, *inner])
    maker.pools.add_models(models)
    listen, admin = maker.draft.listen(maker.port)
    maker.draft.others |= {"listen": listen, "admin": admin}
    account.settle(leaves(outer), "nothing that is carried makes use of it")
    return maker.draft


@dataclass(slots=True)
class _Carried:
    """What is carried if the location is."""

    settings: Settings = field(default_factory=dict)
    """Of its upstreams."""
    defaults: Settings = field(default_factory=dict)
    places: list[tuple[Place, str]] = field(default_factory=list)
    """Each with what is different about it here."""


class _Maker:
    """Directives in, draft out."""

    def __init__(self) -> None:
        self.draft = Draft()
        self.pools = Pools(self.draft)
        self.port = PORT
        self._blocks: dict[str, Place] = {}
        self._listens: list[Place] = []
        self._bodies: list[tuple[int, Place]] = []

    def read(self, level: list[Place]) -> None:
        """Read what stands in `http`, or in a file that is included there."""
        for place in level:
            if place.name == "upstream" and place.block is not None and place.args:
                self._blocks.setdefault(place.args[0], place)
        common = [place for place in level if place.block is None]
        for place in level:
            if place.name == "server" and place.block is not None:
                self._read_server(place, common)
            elif place.name not in {"http", "upstream"}:
                self._tell(place)
        for name, block in self._blocks.items():
            if name not in self.pools.pools:
                block.leave("no location that is carried passes to it")
        self._read_bodies()
        self._read_listens()

    def _read_server(self, server: Place, common: list[Place]) -> None:
        inside = server.inside()
        own = [place for place in inside if place.block is None]
        waiting = [(place, [common, own]) for place in inside if place.block is not None]
        while waiting:
            place, levels = waiting.pop(0)
            if place.name != "location":
                self._tell(place)
                continue
            nested = place.inside()
            levels = [*levels, [each for each in nested if each.block is None]]
            waiting += [(each, levels) for each in nested if each.block is not None]
            try:
                self._read_location(place, levels)
            except (Unusable, BadValue) as error:
                place.leave(f"with all inside: {error}")
                waiting = [each for each in waiting if each[1] is not levels]
        for place in own:
            if place.name == "listen":
                self._listens.append(place)
            else:
                self._tell(place)

    def _read_location(self, location: Place, levels: list[list[Place]]) -> None:
        passing = next((each for each in levels[-1] if each.name == "proxy_pass"), None)
        if passing is None:
            raise Unusable("there is no proxy_pass in it, and the router serves nothing of its own")
        if not location.args or location.args[0] in {"~", "~*"} or location.args[0].startswith("@"):
            raise Unusable("a location that is no plain path: what is asked for is chosen by its model")
        found = _PASS.fullmatch(passing.args[0]) if passing.args else None
        if found is None:
            raise Unusable("where proxy_pass leads is decided for each request, or is no http address")
        scheme, name, uri = found.groups()
        path, is_bare = _base_path(location.args[-1], uri)
        carried = _Carried()
        self._effective(name, scheme, levels, carried)
        block = self._blocks.get(name)
        self.pools.add(
            Pool(name=name, scheme=scheme, path=path, settings=carried.settings, block=block, passing=passing)
        )
        self.draft.others |= {"bare_paths": True} if is_bare else {}
        self.draft.defaults |= carried.defaults
        passing.carry()
        for place, text in carried.places:
            place.change(text) if text else place.carry()
        for level in levels:
            for place in level:
                if place.name == "client_max_body_size":
                    self._bodies.append((size(place), place))
                elif place.name != "listen":
                    self._tell(place)

    # What holds for a location

    def _effective(self, name: str, scheme: str, levels: list[list[Place]], carried: _Carried) -> None:
        """Find what holds for the upstream of this name at the innermost level."""
        for directive, ours in _TIMEOUTS.items():
            place = _innermost(levels, directive)
            text = place.duration() if place else None
            if place is not None and text is not None:
                carried.settings.setdefault("timeouts", {}).update(dict.fromkeys(ours, text))
                carried.places.append((place, ""))
        place = _innermost(levels, "proxy_ssl_name")
        if place is not None and scheme == "https" and place.args and addresses.is_host(place.args[0]):
            carried.settings["tls"] = {"server_name": place.args[0]}
            carried.places.append((place, ""))
        place = _innermost(levels, "proxy_next_upstream_tries")
        if place is not None and place.args and place.args[0] in _TRIES:
            carried.defaults["retry"] = {"attempts": int(place.args[0])}
            carried.places.append((place, ""))
        headers = ([each for each in level if each.name == "proxy_set_header"] for level in reversed(levels))
        for place in next((found for found in headers if found), []):  # one of an inner level hides all further out
            try:
                carried.places.append((place, self._header(name, place, carried.settings)))
            except Unusable as error:
                place.leave(str(error))

    def _header(self, upstream: str, place: Place, settings: Settings) -> str:
        """Carry a header that is sent to an upstream: a setting of its own if it is the credential.

        Returns:
            What is different about it; nothing if nothing is.

        Raises:
            Unusable: It cannot be carried.
        """
        if len(place.args) != 2:
            raise Unusable("it is not a header and its value")
        name, value = place.args
        if name.lower() in upstream_checks.CONNECTION_HEADERS:
            if name.lower() == "host" and "$" not in value:
                raise Unusable("an upstream is asked by the host of its base_url")
            return "needless: the router decides about it"
        if name.lower() in _CREDENTIALS:
            if "$" in value or not value:
                raise Unusable("a client's credential is for the router alone: give the upstream its own as api_key")
            found = _BEARER.fullmatch(value) if name.lower() == "authorization" else None
            if name.lower() == "authorization" and found is None:
                raise Unusable("only Bearer credentials can be sent, as api_key")
            reference = self.draft.reference(found[1] if found else value, upstream)
            settings |= {"api_key": reference} | _CREDENTIALS[name.lower()]
            return f"a secret: it is not written; set {reference['env']} in the router's environment to it"
        if "$" in value:
            raise Unusable(reasons.DIRECTIVES["variable"])
        if value and SENSITIVE.search(name):
            raise Unusable("it may be a credential, which only api_key can hold here")
        self._plain_header(name, value, settings)
        return ""

    @staticmethod
    def _plain_header(name: str, value: str, settings: Settings) -> None:
        headers: Settings = settings.get("headers", {})
        flaw = upstream_checks.header_flaw(name, value)
        if flaw:
            raise Unusable(f"the header {flaw}")
        others = {given: each for given, each in headers.get("set", {}).items() if given.lower() != name.lower()}
        if value:
            headers = headers | {"set": others | {name: value}}
        elif name not in headers.get("deny", []):
            headers = headers | {"deny": [*headers.get("deny", []), name]}
        settings["headers"] = headers

    # What holds for all clients

    def _read_bodies(self) -> None:
        largest = max((found for found, _ in self._bodies), default=0)
        for found, place in self._bodies:
            if not found:
                place.leave("every body has a bound: see `requests.body_max`")
                continue
            shown = values.show_size(values.size(largest))
            self.draft.requests |= {"body_max": shown, "form_max": shown}
            if largest > 1024 * 1024 * 1024:
                self.draft.requests["bodies_total_max"] = shown
            place.carry()
            if found != largest:
                place.change("one bound for all: the largest")

    def _read_listens(self) -> None:
        chosen = None
        for place in self._listens:
            address, *parameters = place.args or ("",)
            port = address.rpartition(":")[2]
            if "ssl" in parameters or "quic" in parameters:
                place.leave("how `listen` takes certificates is in config/router.yaml")
            elif address.startswith("unix:") or (not port.isdecimal() and ":" in address):
                place.leave("`listen` takes host:port here; for others see config/router.yaml")
            elif chosen is not None:
                place.leave(f"line {chosen.line} says already where it listens; see `listen` in config/router.yaml")
            else:
                chosen = place
                self._listen(place, address, int(port) if port.isdecimal() and len(port) < 6 else 80)

    def _listen(self, place: Place, address: str, port: int) -> None:
        if not 0 < port < 65536:
            place.leave("there is no such port")
            return
        self.port = port
        host = address.rpartition(":")[0]
        place.carry()
        if not (host and host != "*" and is_loopback(f"{host}:{port}")):
            place.change(
                "only for programs of this machine, as nothing says who may use it: give `keys`, then widen it"
            )

    def _tell(self, place: Place) -> None:
        """Tell of a directive that has no handler, unless that was done."""
        if place.name in _HANDLED or place.is_told:
            return
        if place.name in _REQUESTS and place.block is None:
            ours = _REQUESTS[place.name]
            text = place.duration()
            if text is not None and self.draft.requests.setdefault(ours, text) != text:
                place.leave(f"it is one for all clients, and another one was given first: see `requests.{ours}`")
            elif text is not None:
                place.carry()
        else:
            place.tell()


_HANDLED: Final = frozenset({
    *_TIMEOUTS, "client_max_body_size", "proxy_set_header", "proxy_ssl_name", "proxy_next_upstream_tries", "proxy_pass",
})  # fmt: skip
"""Of these the innermost counts, which `_effective` looks for; what it does not look at is told at the end."""


def _innermost(levels: list[list[Place]], name: str) -> Place | None:
    return next((place for level in reversed(levels) for place in level if place.name == name), None)


def _base_path(location: str, uri: str | None) -> tuple[str, bool]:
    """Return what `/v1` is there, and whether clients write paths without it.

    nginx puts `uri` where `location` stood in the path; without it the path stays as it is.
    """
    before, version, rest = location.partition("/v1")
    is_versioned = bool(version) and rest[:1] in {"", "/"}
    if uri is None:
        return f"{before if is_versioned else location.rstrip('/')}/v1", False
    path, rest = uri.rstrip("/"), rest.rstrip("/")
    if is_versioned and not path.endswith(rest):
        raise Unusable("proxy_pass gives the path another end, and the router sends what follows /v1 as it is")
    if is_versioned:
        return path.removesuffix(rest), False
    if _VERSION.fullmatch(path.rpartition("/")[2]):
        return path, location == "/"
    return f"{path}/v1", False
