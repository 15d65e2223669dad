"""CONSUMERS OF EVENTS: metrics and the access log."""
