"""The fixtures of the data path serve here too."""

from tests.relay.conftest import first, pytest_asyncio_loop_factories, router, second, upstreams

__all__ = ["first", "pytest_asyncio_loop_factories", "router", "second", "upstreams"]
