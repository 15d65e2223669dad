"""Whether a request is let in, and who may serve it (DESIGN 5, steps 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn

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


class Admitted(NamedTuple):
    """A request that may be tried, as far as the key's limits let it."""

    model: str
    """That it names, or that is configured for requests which name none; empty where no model matters."""
    route: Route
    only: Target | None
    """It must go here and nowhere else: what it names is stored there."""
    wanders: bool
    """It names what is stored somewhere, and we do not know where: a member that does not know it costs nothing."""
    input_estimate: int
    reserved: int
    """Tokens: estimated for the prompt, and reserved with it for the answer."""
    pictures: int
    """In the prompt, where they are paid for one by one."""


def admit(relay: Relay, request: Received, ask: Ask, now: float) -> Admitted:
    """Find out what a request asks for, who may serve it, and what it will need.

    Raises:
        Problem: it is not let in; it is answered with this.
    """
    head = request.head
    endpoint, key = head.endpoint, head.key
    assert endpoint is not None
    model, route, only = _route(relay, request, ask, endpoint, key, now)
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
    return Admitted(model, route, only, bool(ask.named_id) and only is None, prompt, reserved, pictures)


def take(relay: Relay, limiter: Limiter, reserved: int, now: float) -> None:
    """Take what a request needs from its key's limits: all of it or nothing.

    Raises:
        Refused: it is over one of them.
    """
    refusal = limiter.refusal(now, reserved)
    if refusal is not None:
        relay.emit(LimitDecided(scope="key", limit=refusal.limit))
        raise ending.limited(refusal)
    limiter.take(now, reserved)


def _route(  # noqa: PLR0917 (once per request; keywords cost)
    relay: Relay, request: Received, ask: Ask, endpoint: Endpoint, key: KeyState | None, now: float
) -> tuple[str, Route, Target | None]:
    """Return the model, what serves it, and the one place where it can go if there is one."""
    snapshot = request.snapshot
    if endpoint.named_id:
        return _stored(relay, request, endpoint.named_id, key, now)
    if endpoint.pinned:
        return "", snapshot.catalogue.pins[endpoint.pinned], None
    model = ask.model or snapshot.config.default_models.get(endpoint.name, "")
    if not model:
        raise RequestError(Kind.MISSING_PARAMETER, "The request must name a model.", param="model")
    route = snapshot.catalogue.find(model, endpoint.view)
    if route is None:
        _refuse(request, model)
    if key is not None and not key.allowed(model):
        raise RequestError(Kind.MODEL_NOT_ALLOWED, "This API key may not use the model.", param="model")
    only = _owner_of(relay, route, ask.named_id, key, now) if ask.named_id else None
    return model, route, only


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


def _stored(
    relay: Relay, request: Received, identity: str, key: KeyState | None, now: float
) -> tuple[str, Route, Target | None]:
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
    return "", route, target


def _owner_of(relay: Relay, route: Route, identity: str, key: KeyState | None, now: float) -> Target | None:
    """Return the member that holds what the request builds upon; None if nobody knows where that is.

    Raises:
        RequestError: NOT_FOUND: it is another key's; to look for it would let tenants read each other.
        Refused: STICKY_UPSTREAM_DOWN: it is known, and does not serve this model.
    """
    name = key.name if key is not None else ""
    owner = relay.owners.find(identity, name, now)
    if owner is None:
        if relay.owners.is_foreign(identity, name, now):
            raise RequestError(Kind.NOT_FOUND, "There is nothing with this id.")
        return None
    target = route.pool.at(owner.upstream, owner.credential)
    if target is None:
        raise ending.owner_down()
    return target


def draining() -> Refused:
    """The answer to a request that comes after the doors are closed."""
    return Refused(Kind.DRAINING, "The router is stopping.", retry_after_s=1.0, close=True)
