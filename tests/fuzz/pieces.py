"""Ways in which bytes may arrive: the same ones for the same bytes, so that what was found is found again."""

from __future__ import annotations

import random
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def ways(data: bytes) -> Iterator[list[bytes]]:
    """Yield several ways to cut the data: byte by byte, in two, in some pieces. Whole is no way of these."""
    if len(data) < 2:
        return
    rng = random.Random(zlib.crc32(data))
    yield [data[at : at + 1] for at in range(len(data))]
    for cuts in (1, 1, 2, 5):
        yield cut(data, sorted(rng.randrange(1, len(data)) for _ in range(cuts)))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut the data at these places; an empty piece is left out, for nobody reads nothing."""
    return [data[start:end] for start, end in pairwise((0, *places, len(data))) if start < end]
