"""A SIMULATED WORLD: the real policy under a virtual clock, with simulated upstreams and clients."""
