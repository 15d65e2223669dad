"""Embedded upstreams that need no key (fast, slow, flaky), and the show that runs on them."""
