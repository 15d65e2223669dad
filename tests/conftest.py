"""For all tests: how Hypothesis plays its examples, and what begins first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

# On a fresh checkout the first example waits for a second until Hypothesis has made its table of characters.
settings.register_profile("router", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("router")


if TYPE_CHECKING:
    import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The soak takes a minute, mostly of waiting: it begins first, so that no core has only that left in the end."""
    items.sort(key=lambda item: item.path.parent.name != "soak")
