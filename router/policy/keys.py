"""Keys: who calls, which models they may use, and what is left of their limits."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from router.config.schema import Limits
from router.policy.limits import Limiter
from router.policy.patterns import PatternMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.config.schema import Config, Key, Secret

_UNLIMITED = Limits()


class KeyState:
    """One configured key."""

    __slots__ = ("_models", "disabled", "limiter", "name")

    def __init__(self, name: str, models: tuple[str, ...], limiter: Limiter | None, *, disabled: bool) -> None:
        self.name = name
        self.limiter = limiter
        """None: nothing is limited, and nothing counted. Shared with the snapshot before, so that it stays exact."""
        self.disabled = disabled
        self._models = PatternMap({model: model for model in models})

    def __repr__(self) -> str:
        in_flight = "unlimited" if self.limiter is None else f"{self.limiter.in_flight} in flight"
        return f"<Key {self.name}: {'disabled, ' if self.disabled else ''}{in_flight}>"

    def allowed(self, model: str) -> bool:
        """Tell whether this key may use the model."""
        return self._models.find(model) is not None

    def allowing(self, model: str) -> tuple[str, ...]:
        """Return the names and patterns by which it may use the model, the one that counts first."""
        return self._models.matching(model)


class Keyring:
    """Every key, found by what the client sends."""

    __slots__ = ("_by_digest", "_disabled", "keys")

    def __init__(self, keys: Mapping[str, KeyState], digests: Mapping[str, bytes]) -> None:
        """Keep keys, and the SHA-256 of each one's secret, both by configured name."""
        self.keys = keys
        """By configured name, disabled ones too."""
        self._by_digest = {digests[name]: key for name, key in keys.items() if not key.disabled}
        self._disabled = {digests[name]: key for name, key in keys.items() if key.disabled}

    def __repr__(self) -> str:
        return f"<Keyring: {len(self.keys)} keys>"

    @property
    def open(self) -> bool:
        """No keys are configured: everybody on this machine may use everything."""
        return not self.keys

    def find(self, token: bytes) -> KeyState | None:
        """Return the key that this token belongs to; None alike for unknown and disabled ones.

        Looking a digest up in a dict tells nothing by its timing: who wants to guess a digest byte by byte would have
        to find tokens for it.
        """
        return self._by_digest.get(sha256(token).digest())

    def owner(self, digest: bytes) -> KeyState | None:
        """Return the key whose secret has this SHA-256, a disabled one too: for operators, never for clients."""
        return self._by_digest.get(digest) or self._disabled.get(digest)


def build_keyring(config: Config, secrets: Mapping[Secret, str], now: float, previous: Keyring | None) -> Keyring:
    """Build the keyring of a configuration; limits keep what is used of them by the key's name.

    Args:
        config: Validated.
        secrets: What every reference but `sha256` resolves to.
        now: Monotonic seconds.
        previous: The keyring in use; its limiters change with this call, its keys stay valid for exchanges in flight.
    """
    digests = {name: _digest(key.secret, secrets) for name, key in config.keys.items()}
    keys: dict[str, KeyState] = {}
    for name, key in config.keys.items():
        before = previous.keys.get(name) if previous else None
        limiter = _limiter(key, now, before.limiter if before else None)
        keys[name] = KeyState(name, key.models, limiter, disabled=key.disabled)
    return Keyring(keys, digests)


def _digest(secret: Secret, secrets: Mapping[Secret, str]) -> bytes:
    if secret.sha256 is not None:
        return bytes.fromhex(secret.sha256)
    return sha256(secrets[secret].encode()).digest()


def _limiter(key: Key, now: float, before: Limiter | None) -> Limiter | None:
    if before is not None:
        before.reconfigure(key.limits, now)
        return before
    return None if key.limits == _UNLIMITED else Limiter(key.limits, now)
