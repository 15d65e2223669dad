"""What is fuzzed: a module for each part of the router that reads bytes of others.

Each has `check(data)`, which raises unless every promise holds for these bytes; `WORDS`, what such input is made of;
and `BYTES_MAX`, its longest input. They run without atheris too: a file of the corpus is a test like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = (
    "splice", "sse", "multipart", "head", "response_head", "yaml", "translate", "translate_stream", "usage",
    "durations", "envelope",
)  # fmt: skip


class Target(Protocol):
    """A module of this package."""

    check: Callable[[bytes], None]
    WORDS: tuple[bytes, ...]
    BYTES_MAX: int
