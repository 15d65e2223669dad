"""What the policy tests share: a seeded generator and small configurations."""

from __future__ import annotations

from random import Random

import pytest


@pytest.fixture
def rng() -> Random:
    return Random(7)
