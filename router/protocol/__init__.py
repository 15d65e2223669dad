"""WIRE FORMATS: bytes in, values out. Knows nothing of pools, limits or sockets."""
