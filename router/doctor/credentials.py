"""Whether an upstream takes our credentials: each asks for the list of models, which costs nothing."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import msgspec

from router.config.schema import Auth, Protocol
from router.doctor import clock
from router.doctor.asking import Answer, NoAnswer, get
from router.doctor.models import listed
from router.policy.outcomes import Cause, of_status
from router.relay.outbox import Outbox
from router.relay.wire import Wire

if TYPE_CHECKING:
    from router.config.schema import Secret, Upstream
    from router.doctor.findings import Notes
    from router.doctor.models import Listed

PATH: Final = b"/models"
_PAGE: Final = {Protocol.OPENAI: b"", Protocol.ANTHROPIC: b"limit=1000"}
"""Anthropic's list comes in pages of twenty by default."""

UNTOLD: Final = "whether it can be used cannot be told without --deep"


class Standing(Enum):
    """How an upstream takes a credential."""

    GOOD = auto()
    UNTOLD = auto()
    """It answers, but that says nothing about the credential."""
    BAD = auto()
    DEAD = auto()
    """No answer in HTTP: with another credential there would be none either."""


class Credentials:
    """The credentials of one upstream, and what came of asking with each."""

    def __init__(self, notes: Notes, wire: Wire, timeout_s: float) -> None:
        self._notes = notes
        self._wire = wire
        self._timeout_s = timeout_s
        self.standings: list[Standing] = []
        self.listed: Listed | None = None
        """The models that the upstream serves, if it has said so."""
        self.clock_offsets: list[float] = []
        self._shows_anybody = False

    async def examine(self) -> bool:
        """Ask with each in turn; the first that finds nobody home is the last. Returns whether somebody is."""
        outcomes: list[Answer | NoAnswer] = []
        for number in range(len(self._wire.policies)):
            outcomes.append(await self._ask(self._wire, number))
            if isinstance(outcomes[-1], NoAnswer):
                break
        if self._wire.credentials and any(map(_list_in, outcomes)):
            self._shows_anybody = await self._is_public()
        self.standings = [self._judge(number, outcome) for number, outcome in enumerate(outcomes)]
        return Standing.DEAD not in self.standings

    async def _ask(self, wire: Wire, number: int) -> Answer | NoAnswer:
        try:
            return await get(wire, number, PATH, query=_PAGE[wire.protocol], timeout_s=self._timeout_s)
        except NoAnswer as error:
            return error

    async def _is_public(self) -> bool:
        """Whether the list is shown to whoever asks, as OpenRouter's is: then it says nothing about a credential."""
        loop = asyncio.get_running_loop()
        settings = msgspec.structs.replace(self._wire.settings, api_key=None, api_keys=(), auth=None)
        stranger = Wire(self._wire.name, settings, (), loop, Outbox(loop, ()), proxy=self._wire.proxy)
        try:
            return _list_in(await self._ask(stranger, 0)) is not None
        finally:
            stranger.close()

    def _judge(self, number: int, answer: Answer | NoAnswer) -> Standing:
        check, setting = check_name(self._wire, number), f"upstreams.{self._wire.name}"
        if isinstance(answer, NoAnswer):
            self._notes.fail(check, *silence(answer, self._wire, self._timeout_s))
            return Standing.DEAD
        offset = clock.offset_s(answer.said.passing, answer.sent, answer.came)
        if offset is not None:
            self.clock_offsets.append(offset)
        if 200 <= answer.status < 300:
            return self._read_list(check, answer, setting)
        refusal = refused(answer, self._wire, number)
        if refusal is not None:
            self._notes.fail(check, *refusal)
            return Standing.BAD
        error = answer.error
        said = f"answers {answer.status}: {error.message}"
        verdict = of_status(answer.status, error.code, error.type, error.message)
        assert verdict is not None, "it is no success"
        if verdict.cause is Cause.RATE_LIMITED:
            self._notes.warn(check, said, "wait, or see the account's limits: the router passes it over meanwhile")
        elif verdict.cause in {Cause.REQUEST, Cause.MODEL_MISSING} or answer.status == 501:
            cure = f"run this again with --deep; does {setting}.base_url end as its documentation says (often /v1)?"
            self._notes.warn(check, f"{said} to GET {PATH.decode()}: {UNTOLD}", cure)
        elif verdict.cause is Cause.REDIRECT:
            self._notes.fail(
                check, f"answers {answer.status}, a redirection, which the router does not follow",
                f"let {setting}.base_url be the address that it leads to",
            )  # fmt: skip
            return Standing.BAD
        else:
            self._notes.fail(check, said, "see the upstream's own log or status page")
            return Standing.BAD
        return Standing.UNTOLD

    def _read_list(self, check: str, answer: Answer, setting: str) -> Standing:
        found = f"answers {answer.status} in {(answer.came - answer.sent) * 1000:.0f} ms"
        models = _list_in(answer)
        if models is None:
            cure = f"does {setting}.base_url end as its documentation says (often /v1)?"
            self._notes.warn(check, f"{found}, but what it sends is no list of models: {UNTOLD}", cure)
            return Standing.UNTOLD
        self.listed = self.listed or models
        found += f", lists {len(models.ids)} model{'s' * (len(models.ids) != 1)}"
        if self._shows_anybody:
            self._notes.warn(check, f"{found}, but to anybody: {UNTOLD}", "run this again with --deep")
            return Standing.UNTOLD
        self._notes.ok(check, found)
        return Standing.GOOD


def _list_in(answer: Answer | NoAnswer) -> Listed | None:
    return listed(answer.body) if isinstance(answer, Answer) and 200 <= answer.status < 300 else None


def check_name(wire: Wire, number: int) -> str:
    """What findings about a credential are called."""
    count = len(wire.credentials)
    return "answer" if not count else "credential" if count == 1 else f"credential {number + 1} of {count}"


def refused(answer: Answer, wire: Wire, number: int) -> tuple[str, str] | None:
    """Say that an answer is about the credential or its account, and what helps; None if it is not."""
    error = answer.error
    verdict = of_status(answer.status, error.code, error.type, error.message)
    said = f"{answer.status} {error.message}"
    where, what = _reference(wire.settings, number, f"upstreams.{wire.name}")
    if verdict is not None and verdict.cause is Cause.QUOTA:
        return f"its account cannot pay: {said}", "see the account's balance and its limits"
    # Google says 400 about a key that it does not know.
    if answer.status == 400 and "api key" not in error.message.lower():
        return None
    if answer.status != 400 and (verdict is None or verdict.cause is not Cause.AUTH):
        return None
    if not wire.credentials:
        return f"wants a credential: {said}", f"give one: {where}: {{env: NAME}}"
    if wire.settings.sends_credential_as is Auth.BEARER:
        return f"is refused: {said}", f"put a valid one into {what} ({where})"
    return (
        f"is refused: {said}",
        f"put a valid one into {what} ({where}); is {wire.settings.sends_credential_as} right?",
    )


def silence(error: NoAnswer, wire: Wire, timeout_s: float) -> tuple[str, str]:
    """Say why there was no answer, and what helps."""
    setting = f"upstreams.{wire.name}"
    if error.cause is Cause.FIRST_BYTE:
        return (
            f"accepts the connection, then no whole answer for {timeout_s:g} s",
            "see the server's log; give it longer: --timeout",
        )
    if error.cause is Cause.PROTOCOL:
        return "what it answers is not HTTP", f"is the port in {setting}.base_url right? if it wants TLS: https://"
    if error.cause is Cause.CLOSED:
        return _closed(wire, setting)
    if error.cause is Cause.TRUNCATED:
        return "its answer was cut off", "see the server's log, and that of whatever stands before it"
    return f"no answer: {error.cause} {error.detail}", "see the server's log"


def _closed(wire: Wire, setting: str) -> tuple[str, str]:
    """Since TLS 1.3 this is also how a server refuses our certificate: after the handshake, not in it."""
    said = "closes the connection without an answer"
    if not wire.settings.base_url.startswith("https:"):
        return said, f"see the server's log; if it wants TLS, {setting}.base_url begins with https://"
    if wire.settings.tls.cert is None:
        return said, f"does it want a certificate of ours? it belongs under {setting}.tls.cert; see the server's log"
    return said, f"does it accept the certificate under {setting}.tls.cert? see the server's log"


def _reference(settings: Upstream, number: int, setting: str) -> tuple[str, str]:
    """Where a credential is referred to in the file, and where it is kept."""
    if not settings.api_keys:
        return f"{setting}.api_key", _kept(settings.api_key)
    return f"{setting}.api_keys[{number}]", _kept(settings.api_keys[number])


def _kept(secret: Secret | None) -> str:
    if secret is None:
        return "the file"
    if secret.env is not None:
        return f"${secret.env}"
    return f"file {secret.file}" if secret.file is not None else f"the systemd credential {secret.credential}"
