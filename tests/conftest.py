"""For all tests: how Hypothesis plays its examples."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# On a fresh checkout the first example waits for a second until Hypothesis has made its table of characters.
settings.register_profile("router", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("router")
