"""One token from every member of every pool: what only a real request can tell. It costs a little money."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from router.config.schema import Protocol
from router.doctor.asking import NoAnswer, post
from router.doctor.credentials import Standing, check_name, refused, silence
from router.doctor.models import DEPLOYMENTS, alike, asked
from router.policy.outcomes import Cause, of_status
from router.policy.patterns import Pattern
from router.protocol.edits import edits
from router.protocol.splice import compose, read_ask
from router.protocol.upstream_errors import failure_in

if TYPE_CHECKING:
    from router.config.schema import Config
    from router.doctor.asking import Answer
    from router.doctor.credentials import Credentials
    from router.doctor.findings import Notes
    from router.doctor.models import Asked
    from router.relay.wire import Wire

PATIENCE_S: Final = 60.0
"""An answer may take so long, whatever the limit of the other steps: a model may have to be loaded first."""

_EMBEDDINGS: Final = re.compile(r"embed|(?:\A|[/-])(?:bge|gte|e5)-", re.IGNORECASE)
_MODERATION: Final = re.compile(r"moderation", re.IGNORECASE)
_NO_CHAT: Final = re.compile(
    r"rerank|whisper|transcri|\btts|speech|dall-e|image|diffusion|flux|sora|\bveo|video|realtime|audio", re.IGNORECASE
)
_NO_CHAT_ENDPOINTS: Final = frozenset({"images", "image_edits", "image_variations", "videos", "realtime"})
_NEW_BOUND: Final = frozenset({"openai"}) | DEPLOYMENTS
"""Presets whose newer models refuse `max_tokens`."""
_OTHER_BOUND: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_ANSWERS: Final = ("choices", "content", "data", "results")
"""Members of which one holds the answer."""
_OUT_OF_TOKENS: Final = "output limit was reached"
"""OpenAI's models that think say so under 400 if one token was not enough: that is an answer."""

_HELLO: Final = [{"role": "user", "content": "Hello."}]

_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The smallest request that a model can be asked."""

    model: str
    path: bytes
    members: dict[str, Any]
    bound: str = ""
    """The member that bounds its answer; empty if there is none."""


class Deep:
    """Asks for every name that pools ask one upstream for, and notes what comes."""

    def __init__(self, notes: Notes, wire: Wire, config: Config, credentials: Credentials, timeout_s: float) -> None:
        self._notes = notes
        self._wire = wire
        self._config = config
        self._ids = () if credentials.listed is None else credentials.listed.ids
        self._standings = credentials.standings
        self._timeout_s = max(timeout_s, PATIENCE_S)

    async def examine(self) -> None:
        """Ask for the first name with each credential of which nothing was told, for the others with a good one."""
        untold = [number for number, each in enumerate(self._standings) if each is Standing.UNTOLD]
        good = [number for number, each in enumerate(self._standings) if each is Standing.GOOD]
        for each in asked(self._config, self._wire.name):
            question = self._question(each)
            if question is not None:
                for number in untold or good[:1]:
                    good += [number] * await self._ask(each, question, number)
                untold = []

    def _question(self, each: Asked) -> Question | None:
        name = self._name(each)
        if name is None:
            cure = "to have one asked for, declare a model by its own name beside the pattern"
            self._notes.warn(f"deep {each.name}", "not asked: clients choose the name", cure)
            return None
        question = question_for(name, each.model, self._config, self._wire)
        if question is None:
            self._notes.warn(f"deep {name}", "not asked: by its name it is no model for texts", "try it with a client")
        return question

    def _name(self, each: Asked) -> str | None:
        """The name to ask for: of a pattern the only one that is listed and fits."""
        if "*" not in each.name:
            return each.name
        pattern = Pattern(each.name)
        fitting = [name for name in self._ids if pattern.matches(name)]
        return fitting[0] if len(fitting) == 1 else None

    async def _ask(self, each: Asked, question: Question, number: int) -> bool:
        """Ask, if need be once more with the bound's other name; returns whether it was answered."""
        check = f"deep {question.model}"
        if len(self._wire.credentials) > 1:
            check += f", {check_name(self._wire, number)}"
        try:
            answer = await self._send(question, number)
            other = _OTHER_BOUND.get(question.bound)
            if other and answer.status in {400, 422} and other in answer.error.message:
                answer = await self._send(replace(question, bound=other), number)
        except NoAnswer as error:
            self._notes.fail(check, *silence(error, self._wire, self._timeout_s))
            return False
        if 200 <= answer.status < 300:
            return self._judge_success(check, answer)
        refusal = refused(answer, self._wire, number)
        if refusal is not None:
            self._notes.fail(check, *refusal)
            return False
        return self._judge_error(check, each, question.model, answer)

    async def _send(self, question: Question, number: int) -> Answer:
        """Send it as the relay would: without what this upstream cannot take, its bound under the name it knows."""
        wire = self._wire
        body = _encode(question.members | ({question.bound: 1} if question.bound else {}))
        changes, _ = edits(body, drop=wire.drop_params, max_tokens_field=wire.max_tokens_field)
        body = b"".join(compose(read_ask(body), body, question.model, ask_usage=False, edits=changes))
        return await post(wire, number, question.path, body, model=question.model, timeout_s=self._timeout_s)

    def _judge_error(self, check: str, each: Asked, model: str, answer: Answer) -> bool:
        error = answer.error
        said = f"{answer.status} in {_took(answer)}: {error.message}"
        verdict = of_status(answer.status, error.code, error.type, error.message)
        assert verdict is not None, "it is no success"
        if answer.status == 400 and _OUT_OF_TOKENS in error.message:
            self._notes.ok(check, f"answered in {_took(answer)}; one token was not enough for it")
            return True
        if verdict.cause is Cause.RATE_LIMITED:
            self._notes.warn(check, said, "wait, or see the account's limits: the router passes it over meanwhile")
        elif verdict.cause is Cause.MODEL_MISSING or answer.status == 404:
            hint = alike(model, self._ids)
            self._notes.fail(check, f"{said}{hint}", f"give its name there: {each.place}.model")
        elif verdict.cause is Cause.REQUEST:
            self._notes.warn(check, said, "it may be no model for this endpoint; try it with a client")
        else:
            self._notes.fail(check, said, "see the upstream's own log or status page")
        return False

    def _judge_success(self, check: str, answer: Answer) -> bool:
        """A 200 may still be none: see that an answer is in it."""
        said = f"{answer.status} in {_took(answer)}"
        try:
            body = msgspec.json.decode(answer.body)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            self._notes.fail(check, f"{said}, but not a JSON object", "does base_url lead to an API?")
            return False
        failure = failure_in(body, _ANSWERS)
        if failure is not None or not any(member in body for member in _ANSWERS):
            what = "no answer is in it" if failure is None else failure.message
            self._notes.fail(check, f"{said}, but {what}", "see the upstream's own log or status page")
            return False
        self._notes.ok(check, f"answered in {_took(answer)}")
        return True


def question_for(name: str, model: str, config: Config, wire: Wire) -> Question | None:
    """Return what to ask a model, by what it serves as far as its name and `default_models` tell; None: nothing."""
    serves = {endpoint for endpoint, served in config.default_models.items() if served == model}
    if wire.protocol is Protocol.ANTHROPIC:
        return Question(model=name, path=b"/messages", members={"model": name, "messages": _HELLO}, bound="max_tokens")
    if "moderations" in serves or _MODERATION.search(name):
        return Question(model=name, path=b"/moderations", members={"model": name, "input": "Hello."})
    if _EMBEDDINGS.search(name):
        return Question(model=name, path=b"/embeddings", members={"model": name, "input": "Hello."})
    if serves & _NO_CHAT_ENDPOINTS or _NO_CHAT.search(name):
        return None
    bound = wire.max_tokens_field or ("max_completion_tokens" if wire.settings.preset in _NEW_BOUND else "max_tokens")
    return Question(model=name, path=b"/chat/completions", members={"model": name, "messages": _HELLO}, bound=bound)


def _took(answer: Answer) -> str:
    return f"{(answer.came - answer.sent) * 1000:.0f} ms"
