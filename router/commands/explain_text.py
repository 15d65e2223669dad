"""The answer of `llm-router explain` for people: key, limits, request, route, pools, order, deadlines, prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from router.commands.terminal import BOLD, GREEN, RED, YELLOW, painted, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from router.explain.facts import Explanation, KeyFacts, Rewrite
    from router.policy.explain import MemberFacts, Pick, PoolFacts, Rate, Step
    from router.policy.target import Obstacle

WIDTH: Final = 10
"""Of the names of sections."""

PIECES: Final = {"image": "picture", "second": "second of sound", "search": "search"}
"""Prices that are not per million."""

FALLS_BACK: Final = {
    "cached_input": "input",
    "cache_write": "input",
    "cache_write_long": "cache_write",
    "audio_input": "input",
    "image_input": "input",
    "audio_output": "output",
}
"""Prices that are not worth a word where they are the same as another one."""

_OUT: Final = {
    "cooling": "cooling",
    "ejected": "ejected",
    "probation": "its one trial after an ejection is under way",
    "host_ejected": "ejected with its host",
    "host_probation": "the one trial of its host after an ejection is under way",
    "full": "full",
    "requests": "its limit of requests is reached",
    "tokens": "its limit of tokens is reached",
}

_OVER: Final = {"requests": "requests per minute", "tokens": "tokens per minute", "concurrency": "concurrency"}


def write(answer: Explanation, stream: TextIO) -> None:
    """Print it, section by section."""
    outlook = answer.outlook
    colour = (YELLOW if outlook.last_resort else GREEN) if outlook.served else RED
    for line in _headline(answer):
        print(painted(visible(line), colour, stream), file=stream)
    sections: dict[str, Iterator[str]] = {
        "state": iter([_state(answer)]),
        "key": iter([_key(answer.key)]),
        "limits": _limits(answer),
        "request": _request(answer),
        "route": _route(answer),
        "pool": _pools(answer),
        "order": _order(answer),
        "deadlines": _deadlines(answer),
        "price": _prices(answer),
    }
    for name, lines in sections.items():
        label = name
        for line in lines:
            print(painted(f"{label:<{WIDTH}}", BOLD, stream) + visible(line), file=stream)
            label = ""


def _headline(answer: Explanation) -> Iterator[str]:
    outlook = answer.outlook
    if not outlook.served:
        later = "" if outlook.retry_after_s is None else f", come back in {_seconds(outlook.retry_after_s)}"
        yield f"refused: {outlook.status} {outlook.reason}{later}"
        yield outlook.message
        return
    step = answer.order[-1] if outlook.last_resort else answer.order[0]
    yield f"would be tried at {_picks(step, answer)}" + (", which is out: a last resort" if outlook.last_resort else "")


def _state(answer: Explanation) -> str:
    if answer.live:
        return f"of the running daemon, configuration {answer.digest[:12]}"
    return "of the file after a fresh start: everybody well, nothing in flight, nothing used"


def _key(key: KeyFacts) -> str:
    if key.state == "open":
        return "none are configured: everybody on this machine may use everything"
    if key.state == "missing":
        return "none given" + (f"; {key.hint}" if key.hint else "")
    if key.state == "unknown":
        return f"{key.name or 'what was sent'} is none" + (f", {key.hint}" if key.hint else "")
    disabled = "disabled, which clients are told like unknown; " if key.state == "disabled" else ""
    if not key.may_use:
        return f"{key.name}: {disabled}may not use the model"
    return f"{key.name}: {disabled}may use it" + (f" by {key.allowed_by[0]}" if key.allowed_by else "")


def _limits(answer: Explanation) -> Iterator[str]:
    limits = answer.limits
    if limits is None:
        yield "none"
        return
    levels = limits.levels
    if levels.requests is not None:
        yield f"requests: {_rate(levels.requests)}"
    if levels.tokens is not None:
        yield f"tokens: {_rate(levels.tokens)}"
    slots = levels.concurrency
    yield f"in flight: {slots.in_flight:,}" + (f" of {slots.limit:,}" if slots.limit is not None else "")
    for name in limits.refused_by:
        yield f"refuses by {_OVER.get(name, name)}"


def _rate(rate: Rate) -> str:
    full = f", all of it in {_seconds(rate.full_in_s)}" if rate.full_in_s > 0 else ""
    left = f"{rate.left:,} of {rate.at_once:,} left" if rate.left >= 0 else f"in debt by {-rate.left:,}"
    return f"{left}, {rate.per_minute:,} a minute{full}"


def _request(answer: Explanation) -> Iterator[str]:
    request = answer.request
    if request is None:
        return
    kind = f"{request.endpoint} ({request.protocol}){', a stream' if request.stream else ''}"
    yield kind + ("" if request.has_body else ", its body not given: the prompt counts as nothing")
    correction = f" x {request.correction:.2f}" if request.correction != 1 else ""
    prompt = f"{request.prompt_tokens:,} for the prompt"
    if request.has_body:
        prompt += f" ({request.text_bytes:,} bytes / {request.bytes_per_token:g}{correction})"
    output = f"{request.output_tokens:,} for the answer ({request.output_from}"
    output += f" x {request.choices} choices)" if request.choices != 1 else ")"
    parts = [prompt] if request.output_from == "nothing" else [prompt, output]
    yield f"reserves {request.reserved_tokens:,} tokens: {', '.join(parts)}"


def _route(answer: Explanation) -> Iterator[str]:
    route = answer.route
    if not route.name:
        if answer.outlook.reason == "model_not_found" or route.hint:
            yield "nothing serves this model" + (f", {route.hint}" if route.hint else "")
        return
    lost = f"; {', '.join(route.lost)} would fit as well, but {'exact names' if route.exact else 'longer ones'} win"
    yield f"{route.name} ({'exact name' if route.exact else 'pattern'}){lost if route.lost else ''}"
    if answer.stored:
        yield f"what it names is stored at {answer.stored}: it goes there or nowhere"
    elif answer.stored_somewhere:
        yield "what it names is stored nobody knows where: members are asked one after the other"


def _pools(answer: Explanation) -> Iterator[str]:
    rewrites = {(each.route, each.upstream, each.member): each for each in answer.rewrites}
    for number, pool in enumerate(answer.pools):
        yield f"{'fallback ' if number else ''}{pool.route}, {pool.choose}"
        for tier in dict.fromkeys(member.tier for member in pool.members):
            members = [member for member in pool.members if member.tier == tier]
            names = [_name(member, pool) for member in members]
            width = max(map(len, names))
            for member, name in zip(members, names, strict=True):
                yield f"  tier {tier}  {name:<{width}}  {_member(member)}"
                rewrite = rewrites.pop((pool.route, member.upstream, member.model), None)
                if rewrite is not None:
                    yield f"          {_rewrite(rewrite, answer)}"


def _name(member: MemberFacts | Pick, pool: PoolFacts) -> str:
    """Name a member as shortly as it can be told from the others."""
    same = [each for each in pool.members if each.upstream == member.upstream]
    model = f" {member.model}" if len({each.model for each in same}) > 1 else ""
    number = f" #{member.credential + 1}" if any(each.credentials > 1 for each in same) else ""
    return f"{member.upstream}{model}{number}"


def _member(member: MemberFacts) -> str:
    limit = f" of {member.limit:,}" if member.limit is not None else ""
    load = f"weight {member.weight:g} ({member.share:.0%}), {member.in_flight:,}{limit} in flight"
    notes = []
    if member.eligible:
        notes.append("eligible" + (": its one trial after an ejection" if member.probation else ""))
    else:
        notes += ["drained: weight 0"] if not member.weight else []
        notes += ["does not speak the client's protocol (translate: false)"] if not member.spoken else []
        notes += [_obstacle(each) for each in member.obstacles]
    if member.penalty_s:
        notes.append(f"failed lately: counts as more loaded for {_seconds(member.penalty_s)}")
    if member.pace is not None:
        pace = member.pace
        notes.append(
            f"paced: {pace.requests:,} in {_seconds(pace.per_s)}, waits for its turn up to {_seconds(pace.wait_s)}"
        )
    return f"{load}; {'; '.join(notes)}"


def _obstacle(obstacle: Obstacle) -> str:
    since = f", since {_seconds(obstacle.since_s)}" if obstacle.since_s is not None else ""
    until = f", {_seconds(obstacle.for_s)} more" if obstacle.for_s is not None else ""
    why = f" ({obstacle.why})" if obstacle.why else ""
    return f"out: {_OUT.get(obstacle.name, obstacle.name)}{why}{since}{until}"


def _rewrite(rewrite: Rewrite, answer: Explanation) -> str:
    request = answer.request
    parts = [rewrite.url]
    if request is not None and rewrite.model != request.model:
        parts.append(f"{request.model} is {rewrite.model} there")
    if rewrite.translated:
        parts.append(f"translated to {rewrite.translated}")
    if rewrite.renamed:
        parts.append(f"renamed: {rewrite.renamed}")
    if rewrite.dropped:
        parts.append(f"left out{'' if request and request.has_body else ' if given'}: {', '.join(rewrite.dropped)}")
    if rewrite.asks_usage:
        parts.append("usage is asked for")
    if rewrite.waits:
        parts.append("waits for its turn")
    if rewrite.refused:
        parts.append(f"cannot be put there: {rewrite.refused}")
    return "; ".join(parts)


def _order(answer: Explanation) -> Iterator[str]:
    if not answer.order:
        return
    several = len(answer.pools) > 1
    for number, step in enumerate(answer.order, start=1):
        where = {"tier": f"tier {step.tier}", "stored": "where it is stored", "last_resort": "last resort"}[step.kind]
        yield f"{number}. {f'{step.route} ' if several else ''}{where}: {_picks(step, answer)}"
    retry = answer.retry
    yield (
        f"up to {retry.attempts} attempts that reach an upstream; {retry.under_way} of {retry.allowed:g} retries at"
        " failing members under way"
    )


def _picks(step: Step, answer: Explanation) -> str:
    pool = next(pool for pool in answer.pools if pool.route == step.route)
    return ", ".join(_pick(pick, _name(pick, pool)) for pick in step.picks)


def _pick(pick: Pick, name: str) -> str:
    if pick.chance == 0:
        return f"then {name}"
    return name if pick.chance in {None, 1.0} else f"{name} {pick.chance:.0%}"


def _deadlines(answer: Explanation) -> Iterator[str]:
    groups: dict[tuple[tuple[str, float, str], ...], dict[str, None]] = {}
    for pool in answer.pools:
        for member in pool.members:
            if member.deadlines:
                key = tuple((each.name, each.seconds, each.level) for each in member.deadlines)
                name = f"{pool.route} at {member.upstream}" if len(answer.pools) > 1 else member.upstream
                groups.setdefault(key, {})[name] = None
    for deadlines, names in groups.items():
        told = ", ".join(f"{name} {_seconds(seconds)} ({level})" for name, seconds, level in deadlines)
        yield told if len(groups) == 1 else f"{', '.join(names)}: {told}"


def _prices(answer: Explanation) -> Iterator[str]:
    for number, pool in enumerate(answer.pools):
        yield f"{f'fallback {pool.route}: ' if number else ''}{_price(pool)}"


def _price(pool: PoolFacts) -> str:
    if pool.price is None:
        return "unknown"
    price = {name: usd for name, usd in pool.price.items() if usd != pool.price.get(FALLS_BACK.get(name, ""))}
    million = _listed({name: usd for name, usd in price.items() if name not in PIECES})
    pieces = ", ".join(f"{usd:g} for each {PIECES[name]}" for name, usd in price.items() if name in PIECES)
    return (
        "; ".join(filter(None, [f"USD per million: {million}" if million else "", pieces and f"USD: {pieces}"]))
        or "free"
    )


def _listed(prices: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {usd:g}" for name, usd in prices.items())


def _seconds(seconds: float) -> str:
    """Write a duration as one says it: three digits of it are enough."""
    if seconds >= 100:
        return f"{seconds:,.0f} s"
    return f"{seconds:.3g} s" if seconds >= 0.01 else f"{seconds * 1000:.2g} ms"
