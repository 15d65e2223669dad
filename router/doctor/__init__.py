"""`llm-router doctor`: what would keep the router from serving, found out on the spot, each with its cure.

The machine and its files first, then every upstream step by step, by the same code that serves: `relay.wire` gives the
address, TLS, the proxy, credentials and headers, so that what is found here holds for the daemon.
"""
