"""What would happen to a request, and why: the whole answer of `llm-router explain`; sends nothing, changes nothing.

The same code answers for the running daemon and for a file (`fresh`). The request is read and admitted by the very
functions of the relay (`Received`, `admission.admit`), the pools are told of by `policy.explain`. The first problem,
in the relay's own order, is what the client would see; what comes after it is told as if it were not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, cast

import msgspec

from router.config.report import did_you_mean
from router.errors import Kind, Problem
from router.explain.facts import (
    Asked,
    Explanation,
    KeyFacts,
    LimitFacts,
    Outlook,
    OutputFrom,
    RequestFacts,
    RetryFacts,
    RouteFacts,
)
from router.explain.rewrites import Request, Rewrites
from router.policy import catalogue
from router.policy.explain import Step, View, levels, pools, steps, stored_step, unspoken
from router.policy.keys import build_keyring
from router.policy.limits import BYTES_PER_TOKEN
from router.policy.owners import Owners
from router.protocol.asks import Ask
from router.protocol.endpoints import NAMED, Body, Endpoint, Endpoints
from router.relay import admission, ending
from router.relay.request import Head, Received, authenticate
from router.relay.service import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.config.schema import Config, Secret
    from router.policy.catalogue import Route
    from router.policy.keys import KeyState
    from router.policy.target import Target
    from router.relay.service import Relay

NAMED_MAX = 5
"""Keys that are named to whoever gave none."""


class BadQuestion(Exception):
    """What was asked makes no sense; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is asked about."""

    snapshot: Snapshot
    owners: Owners
    live: bool
    """It is the running daemon's."""
    closed: bool = False
    """It stops, and takes nothing new."""
    body_bytes: int = 0
    """Held of other requests."""


def fresh(config: Config, secrets: Mapping[Secret, str], now: float) -> Subject:
    """Return a configuration as it would be right after a start.

    `secrets` are those that are known. A key whose secret is not among them can be named; no token is taken for it.
    """
    known = {key.secret: secrets.get(key.secret, token_hex(32)) for key in config.keys.values()}
    snapshot = Snapshot(
        config=config,
        digest="",
        catalogue=catalogue.build(config, now, None),
        keyring=build_keyring(config, known, now, None),
        endpoints=Endpoints(bare=config.bare_paths, unknown=config.passthrough_unknown_paths, pins=config.pins),
        wires={},
    )
    return Subject(snapshot=snapshot, owners=Owners(config.sticky.ids_max, config.sticky.ttl), live=False)


def explain(subject: Subject, asked: Asked, now: float) -> Explanation:
    """Answer a question.

    Raises:
        BadQuestion: It makes no sense.
    """
    return _Answer(subject, asked, now).whole()


def replied(subject: Subject, question: bytes, now: float) -> tuple[int, object]:
    """Answer `POST /-/explain`: the status, and the value to write as JSON."""
    try:
        return 200, explain(subject, msgspec.json.decode(question, type=Asked), now)
    except (BadQuestion, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return 400, {"error": {"message": str(error), "code": 400}}


class _Standin:
    """Of the relay, for what reads and admits requests: its own counts, and owners that do not notice being asked."""

    def __init__(self, subject: Subject) -> None:
        self.body_bytes = subject.body_bytes
        self.spooled_bytes = 0
        self.owners = self
        self.find = subject.owners.look
        self.is_foreign = subject.owners.is_foreign


class _Answer:
    """Holds what the parts of an answer share."""

    def __init__(self, subject: Subject, asked: Asked, now: float) -> None:
        self._subject = subject
        self._snapshot = subject.snapshot
        self._asked = asked
        self._now = now
        self._endpoint = _endpoint(asked.endpoint, self._snapshot)
        self._body = _body(asked, self._endpoint)
        self._key: KeyState | None = None
        """Whose request it is, or would be if the key were not disabled."""
        self._problem: Problem | None = None
        """The first."""

    def whole(self) -> Explanation:
        """Return it."""
        key = self._authenticated()
        relay = cast("Relay", _Standin(self._subject))
        head = Head(self._snapshot)
        head.endpoint, head.key = self._endpoint, self._key
        received = Received(relay, head, self._now)
        ask = self._read(received)
        admitted = self._admitted(relay, received, ask) if ask is not None else None
        if ask is None or admitted is None:
            return self._without_route(key, ask.model if ask is not None else self._asked.model)
        return self._with_route(key, ask, admitted)

    def _fails(self, problem: Problem) -> None:
        self._problem = self._problem or problem

    # the order of the relay

    def _authenticated(self) -> KeyFacts:
        keyring, asked = self._snapshot.keyring, self._asked
        if keyring.open:
            return KeyFacts(name="", state="open")
        key = keyring.owner(_digest(asked.key_sha256)) if asked.key_sha256 else keyring.keys.get(asked.key)
        self._key = key
        if key is not None and not key.disabled:
            return KeyFacts(name=key.name, state="ok")
        missing = not (asked.key or asked.key_sha256)
        try:
            authenticate(keyring, None if missing else token_hex(32).encode())
        except Problem as problem:
            self._fails(problem)
        if key is not None:
            return KeyFacts(name=key.name, state="disabled")
        hint = did_you_mean(asked.key, keyring.keys).removeprefix(", ")
        return KeyFacts(name=asked.key, state="missing" if missing else "unknown", may_use=False, hint=hint)

    def _read(self, received: Received) -> Ask | None:
        """Read the request; None if it is no good."""
        asked, head, endpoint = self._asked, received.head, self._endpoint
        ask: Ask | None = Ask("")
        if self._body is not None:
            received.add_whole(self._body)
        if received.problem is not None:
            self._fails(received.problem)
            ask = None
        if self._subject.closed:
            self._fails(admission.draining())
        if self._body is not None and ask is not None:
            if asked.model:  # then it need not stand in the body
                head.endpoint = msgspec.structs.replace(endpoint, model_optional=True)
            try:
                ask = received.ask()
            except Problem as problem:
                self._fails(problem)
                ask = None
            head.endpoint = endpoint
        if ask is None:
            return None
        return msgspec.structs.replace(ask, model=asked.model or ask.model, stream=ask.stream or asked.stream)

    def _admitted(self, relay: Relay, received: Received, ask: Ask) -> admission.Admitted | None:
        """Ask as the relay does. What only this key may not have is looked up as if it might."""
        head = received.head
        for key in (self._key, None):
            head.key = key
            try:
                return admission.admit(relay, received, ask, self._now)
            except Problem as problem:
                self._fails(problem)
                if problem.kind is not Kind.MODEL_NOT_ALLOWED:
                    return None
        return None

    def _limited(self, reserved: int) -> LimitFacts | None:
        limiter = self._key.limiter if self._key is not None else None
        if limiter is None:
            return None
        refusal = limiter.refusal(self._now, reserved)
        if refusal is not None:
            self._fails(ending.limited(refusal))
        refused_by = tuple(each.limit for each in limiter.refusals(self._now, reserved))
        return LimitFacts(levels=levels(limiter, self._now), refused_by=refused_by)

    def _picked(self, view: View, route: Route, only: Target | None, rewrites: Rewrites) -> tuple[Step, ...]:
        """Return where it is tried, in order: `Tries.pick`, with every one failing."""
        order = steps(view, route) if only is None else stored_step(view, route, only)
        if not order:
            kind, wait_s = route.pool.why_not(self._now, view.reserved)
            self._fails(ending.nobody(Kind.STICKY_UPSTREAM_DOWN if only is not None else kind, wait_s))
            return order
        refusals = [
            rewrites.refusals.get((step.route, pick.upstream, pick.model)) for step in order for pick in step.picks
        ]
        last = refusals[-1]
        if last is None or not all(refusals):
            return order
        resort: tuple[Step, ...] = ()
        if only is None and order[0].kind == "tier":  # nobody who is well can be sent it: somebody who is not, perhaps
            everybody = [target for each in route.chain for target in each.pool.targets]
            resort = steps(view, route, [each for each in everybody if each.eligible(self._now, view.reserved)])
        if all((step.route, pick.upstream, pick.model) in rewrites.refusals for step in resort for pick in step.picks):
            self._fails(last)
        return (*order, *resort)

    # the two kinds of answers

    def _without_route(self, key: KeyFacts, model: str) -> Explanation:
        """Answer about a request that nobody is asked for: its body, its model or what it names is no good."""
        route = self._route(model, "")
        snapshot = self._snapshot
        view = View(snapshot.config, snapshot.catalogue, 0, self._now)
        is_spoken = not route.name or snapshot.catalogue.find(model, self._endpoint.view) is not None
        return Explanation(
            limits=self._limited(0),
            outlook=self._outlook(()),
            live=self._subject.live,
            digest=snapshot.digest,
            key=self._with_model(key, model),
            request=None,
            route=route,
            pools=() if is_spoken else (unspoken(view, route.name),),
            retry=self._retry(None),
        )

    def _with_route(self, key: KeyFacts, ask: Ask, admitted: admission.Admitted) -> Explanation:
        model, route, only, wanders, prompt, reserved, _ = admitted
        snapshot = self._snapshot
        view = View(snapshot.config, snapshot.catalogue, reserved, self._now)
        rewrites = Rewrites(snapshot, route, Request(endpoint=self._endpoint, model=model, ask=ask, body=self._body))
        limits = self._limited(reserved)
        order = self._picked(view, route, only, rewrites)
        return Explanation(
            outlook=self._outlook(order),
            live=self._subject.live,
            digest=snapshot.digest,
            key=self._with_model(key, model),
            request=self._request(ask, model, route, prompt, reserved),
            limits=limits,
            route=self._route(model, route.name),
            stored=only.upstream.name if only is not None else "",
            stored_somewhere=wanders,
            pools=pools(view, route, only),
            rewrites=rewrites.all,
            order=order,
            retry=self._retry(route),
        )

    def _outlook(self, order: tuple[Step, ...]) -> Outlook:
        problem = self._problem
        if problem is None:
            return Outlook(served=True, last_resort=order[-1].kind == "last_resort")
        return Outlook(
            served=False,
            status=problem.status,
            reason=problem.kind,
            message=problem.message,
            retry_after_s=problem.retry_after_s,
        )

    def _with_model(self, key: KeyFacts, model: str) -> KeyFacts:
        """Add what the key may do with a model, or without one who may."""
        if self._key is not None:
            allowing = self._key.allowing(model)
            return msgspec.structs.replace(key, allowed_by=allowing, may_use=bool(allowing) or not model)
        if key.state != "missing" or not model:
            return key
        able = [each.name for each in self._snapshot.keyring.keys.values() if not each.disabled and each.allowed(model)]
        more = f" and {len(able) - NAMED_MAX} more" if len(able) > NAMED_MAX else ""
        hint = f"may use it: {', '.join(able[:NAMED_MAX])}{more}" if able else "no key may use it"
        return msgspec.structs.replace(key, hint=hint)

    def _route(self, model: str, name: str) -> RouteFacts:
        fitting = self._snapshot.catalogue.matching(model) if model else ()
        name = name or (fitting[0] if fitting else "")
        if name:
            return RouteFacts(name=name, exact=name == model, lost=tuple(each for each in fitting if each != name))
        names = [each for each in self._snapshot.config.models if "*" not in each]
        return RouteFacts(name="", hint=did_you_mean(model, names).removeprefix(", "))

    def _request(self, ask: Ask, model: str, route: Route, prompt: int, reserved: int) -> RequestFacts:
        endpoint = self._endpoint
        output_from: OutputFrom = "default_output_tokens" if ask.max_tokens is None else "max_tokens"
        return RequestFacts(
            model=model,
            endpoint=endpoint.name,
            protocol=endpoint.protocol,
            stream=ask.stream,
            has_body=self._body is not None,
            text_bytes=ask.text_bytes,
            bytes_per_token=BYTES_PER_TOKEN,
            correction=route.correction.value,
            prompt_tokens=prompt,
            output_tokens=reserved - prompt,
            output_from=output_from if endpoint.generates else "nothing",
            choices=ask.n,
            reserved_tokens=reserved,
        )

    def _retry(self, route: Route | None) -> RetryFacts:
        attempts = self._snapshot.config.defaults.retry.attempts
        if route is None:
            return RetryFacts(attempts=attempts, under_way=0, allowed=0)
        budget = route.pool.retry
        return RetryFacts(attempts=attempts, under_way=budget.active, allowed=budget.allowed(route.pool.in_flight))


def _endpoint(name: str, snapshot: Snapshot) -> Endpoint:
    if name.startswith("/"):
        found = snapshot.endpoints.find(b"POST", name.encode("utf-8", "replace"))
        if found is None:
            raise BadQuestion(f"nothing is served at {name!r}")
        return found
    if name not in NAMED:
        hint = did_you_mean(name, NAMED) or f"; there are {', '.join(sorted(NAMED))}"
        raise BadQuestion(f"there is no endpoint {name!r}{hint}")
    return NAMED[name]


def _digest(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise BadQuestion("key_sha256 must be hex digits") from None


def _body(asked: Asked, endpoint: Endpoint) -> bytes | None:
    """Return the request's body, as the client would send it."""
    body = bytes(asked.body)
    if body == b"null":
        return None
    if endpoint.body not in {Body.JSON, Body.EITHER}:
        raise BadQuestion(f"{endpoint.name} takes no JSON, and only such bodies are read here; leave it out")
    if not body.startswith(b'"'):
        return body
    return msgspec.json.decode(body, type=str).encode("utf-8", "surrogatepass")
