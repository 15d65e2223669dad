"""Whose account holds an answer that can be asked for again (PROTOCOL 2.2): response ids, video jobs.

State lives in an upstream's account, so a request that names an id must go where that is. And many keys share an
account: an id is known only to the key that got it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

ID_CHARS_MAX = 1024
"""The longest id that is kept. OpenAI's have 55 characters, those of gateways that pack a place into them some 300."""


class Owner(NamedTuple):
    """Where one id belongs."""

    route: str
    """The configured model that it was asked of."""
    upstream: str
    credential: int
    """Index into the upstream's credentials: each may be an account of its own."""
    model: str
    """The model's name there."""
    key: str
    """The configured key that may use it; empty where no keys are configured."""
    billed: bool
    """Its usage has been counted. False: it runs in the background, and a later look will tell."""


class Owners:
    """The ids of late, the least recently used forgotten first."""

    __slots__ = ("_owners", "ids_max", "ttl_s")

    def __init__(self, ids_max: int, ttl_s: float) -> None:
        self.ids_max = ids_max
        """Ids that are kept; each takes some 400 bytes."""
        self.ttl_s = ttl_s
        """Seconds after which an id is forgotten, counted from its last use."""
        self._owners: OrderedDict[str, tuple[Owner, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Owners: {len(self._owners)} of {self.ids_max} ids>"

    def __len__(self) -> int:
        return len(self._owners)

    def find(self, identity: str, key: str, now: float) -> Owner | None:
        """Return where an id belongs; None alike if it is unknown, forgotten or another key's."""
        found = self._owners.get(identity)
        if found is None:
            return None
        owner, until = found
        if now >= until:
            del self._owners[identity]
            return None
        if owner.key != key:
            return None
        self._owners[identity] = owner, now + self.ttl_s
        self._owners.move_to_end(identity)
        return owner

    def look(self, identity: str, key: str, now: float) -> Owner | None:
        """Return what `find` would, without counting as a use of the id."""
        found = self._owners.get(identity)
        if found is None or now >= found[1] or found[0].key != key:
            return None
        return found[0]

    def is_foreign(self, identity: str, key: str, now: float) -> bool:
        """Tell whether an id is known to be another key's."""
        found = self._owners.get(identity)
        return found is not None and now < found[1] and found[0].key != key

    def keep(self, identity: str, owner: Owner, now: float) -> None:
        """Remember an id. One that another key has is left alone: nobody may take it over by guessing it."""
        if not 0 < len(identity) <= ID_CHARS_MAX:
            return
        before = self._owners.get(identity)
        if before is not None and now < before[1] and before[0].key != owner.key:
            return
        self._owners[identity] = owner, now + self.ttl_s
        self._owners.move_to_end(identity)
        while len(self._owners) > self.ids_max:
            self._owners.popitem(last=False)

    def forget(self, identity: str) -> None:
        """An id has been deleted."""
        self._owners.pop(identity, None)
