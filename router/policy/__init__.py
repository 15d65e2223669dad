"""DECISIONS: state and arithmetic; no await, no clock, no socket. Knows nothing of the wire."""
