"""What an embedded upstream does when it is asked: how fast, and which faults when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Mapping


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an upstream answers. "Every n" means the nth, 2nth … request it gets; 0 means never."""

    latency_s: Annotated[float, Meta(ge=0, le=3600)] = 0.02
    """From the request to the head of its answer."""
    token_interval_s: Annotated[float, Meta(ge=0, le=60)] = 0.005
    """Between two events of a stream."""
    tokens: Annotated[int, Meta(ge=1, le=100_000)] = 12
    """Completion tokens of an answer, unless the request asks for fewer."""
    errors: dict[Annotated[int, Meta(ge=400, le=599)], Annotated[int, Meta(ge=1)]] = {}
    """Status to n: every n requests one is answered with this status. Of several the first that is due is taken."""
    retry_after_s: Annotated[int, Meta(ge=0)] = 1
    """What `retry-after` says on 429 and 503."""
    stall_every: Annotated[int, Meta(ge=0)] = 0
    """Silence instead of a head, until the caller gives up."""
    cut_every: Annotated[int, Meta(ge=0)] = 0
    """Streams are counted alone here, as nothing else can be cut."""
    cut_after: Annotated[int, Meta(ge=0)] = 1
    """Events that are sent before the cut; the first one carries no content yet."""
    down: bool = False
    """Every connection that asks something is closed without an answer."""


BEHAVIOURS: Mapping[str, Behaviour] = {
    "fast": Behaviour(latency_s=0.01, token_interval_s=0.002),
    "slow": Behaviour(latency_s=0.25, token_interval_s=0.02),
    "flaky": Behaviour(latency_s=0.05, errors={500: 2, 429: 5}, cut_every=3, stall_every=7),
}
"""The upstreams, and how each answers unless told otherwise."""


def changed(behaviour: Behaviour, changes: dict[str, Any]) -> Behaviour:
    """Return `behaviour` with `changes` made to it.

    Raises:
        msgspec.ValidationError: an unknown name, or a value out of bounds.
    """
    return msgspec.convert({**msgspec.to_builtins(behaviour), **changes}, Behaviour, strict=False)
