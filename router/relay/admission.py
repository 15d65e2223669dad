"""Whether a request is let in, and who may serve it (DESIGN 5, steps 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from router.errors import Kind, Refused, RequestError
from router.events import LimitDecided
from router.policy.limits import estimate_tokens
from router.protocol.pictures import count_pictures
from router.relay import ending

if TYPE_CHECKING:
    from router.policy.catalogue import Route
    from router.policy.keys import KeyState
    from router.policy.limits import Limiter
    from router.policy.target import Target
    from router.protocol.asks import Ask
    from router.protocol.endpoints import Endpoint
    from router.relay.request import Received
    from router.relay.service import Relay


Admitted = tuple[str, "Route", "Target | None", bool, int, int, int]
"""The model that the request names, or that is configured for requests which name none, empty where no model matters;
what serves it; the one place where it must go, if what it names is stored there; whether it names what is stored
somewhere unknown; tokens estimated for the prompt, and with those of the answer; pictures in the prompt, where they are
paid for one by one. (A tuple without names: once per request, 0.3 us.)"""


def admit(relay: Relay, request: Received, ask: Ask, now: float) -> Admitted:
    """Find out what a request asks for, who may serve it, and what it will need.

    Raises:
        Problem: it is not let in; it is answered with this.
    """
    head = request.head
    endpoint, key = head.endpoint, head.key
    assert endpoint is not None
    if endpoint.named_id:
        model, (route, only) = "", _stored(relay, request, endpoint.named_id, key, now)
    elif endpoint.pinned:
        model, route, only = "", request.snapshot.catalogue.pins[endpoint.pinned], None
    else:
        model = ask.model or _default(request, endpoint)
        route = request.snapshot.catalogue.find(model, endpoint.view) or _refuse(request, model)
        if key is not None and not key.allowed(model):
            raise RequestError(Kind.MODEL_NOT_ALLOWED, "This API key may not use the model.", param="model")
        route, only = _owner_of(relay, route, ask.named_id, key, now) if ask.named_id else (route, None)
    prompt, reserved = estimate_tokens(
        ask.text_bytes,
        ask.max_tokens if endpoint.generates else 0,
        ask.n,
        route.default_output_tokens,
        route.correction.value,
    )
    pictures = 0
    if endpoint.generates and route.prices is not None and route.prices.counts_pictures:
        pictures = count_pictures(request.body())
    return model, route, only, bool(ask.named_id) and only is None, prompt, reserved, pictures


def take(relay: Relay, key: str, limiter: Limiter, reserved: int, now: float) -> None:
    """Take what a request needs from its key's limits: all of it or nothing.

    Raises:
        Refused: it is over one of them.
    """
    refusal = limiter.refusal(now, reserved)
    if refusal is not None:
        relay.emit(LimitDecided(scope="key", limit=refusal.limit, key=key))
        raise ending.limited(refusal)
    limiter.take(now, reserved)


def _default(request: Received, endpoint: Endpoint) -> str:
    """Return the model of a request that names none."""
    model = request.snapshot.config.default_models.get(endpoint.name, "")
    if not model:
        raise RequestError(Kind.MISSING_PARAMETER, "The request must name a model.", param="model")
    return model


def _refuse(request: Received, model: str) -> NoReturn:
    """Nobody can serve this model here: because nobody knows it, or because it is not for this endpoint."""
    endpoint = request.head.endpoint
    assert endpoint is not None
    known = request.snapshot.catalogue.find(model) is not None
    if known and endpoint.name == "count_tokens":  # clients fall back on an estimate of their own (PROTOCOL 10.2)
        raise RequestError(Kind.NOT_FOUND, f"Tokens cannot be counted for the model '{model}'.")
    if known:
        raise RequestError(
            Kind.UNSUPPORTED_ENDPOINT, f"The model '{model}' cannot be used with this endpoint.", param="model"
        )
    raise RequestError(Kind.MODEL_NOT_FOUND, f"model '{model}' not found", param="model")


def _stored(relay: Relay, request: Received, identity: str, key: KeyState | None, now: float) -> tuple[Route, Target]:
    """Find where something that is asked for by its id is stored (PROTOCOL 2.2).

    Raises:
        RequestError: NOT_FOUND, alike for an id of nobody and of another key.
        Refused: STICKY_UPSTREAM_DOWN: its upstream is not served any more.
    """
    owner = relay.owners.find(identity, key.name if key is not None else "", now)
    if owner is None:
        raise RequestError(Kind.NOT_FOUND, "There is nothing with this id.")
    route = request.snapshot.catalogue.routes.get(owner.route)
    target = route.pool.at(owner.upstream, owner.credential) if route is not None else None
    if route is None or target is None:
        raise ending.owner_down()
    return route, target


def _owner_of(
    relay: Relay, route: Route, identity: str, key: KeyState | None, now: float
) -> tuple[Route, Target | None]:
    """Return the member that holds what the request builds upon, and whose it is: the route's or a fallback's.

    The member is None if nobody knows where that is.

    Raises:
        RequestError: NOT_FOUND: it is another key's; to look for it would let tenants read each other.
        Refused: STICKY_UPSTREAM_DOWN: it is known, and does not serve this model.
    """
    name = key.name if key is not None else ""
    owner = relay.owners.find(identity, name, now)
    if owner is None:
        if relay.owners.is_foreign(identity, name, now):
            raise RequestError(Kind.NOT_FOUND, "There is nothing with this id.")
        return route, None
    for each in route.chain:
        target = each.pool.at(owner.upstream, owner.credential)
        if target is not None:
            return each, target
    raise ending.owner_down()


def draining() -> Refused:
    """The answer to a request that comes after the doors are closed."""
    return Refused(Kind.DRAINING, "The router is stopping.", retry_after_s=1.0, close=True)
