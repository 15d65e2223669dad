"""Configurations of other programs become ours: `litellm` and `nginx` read them, `draft` writes what comes of it.

`account` remembers what became of each of their settings, so that nothing is dropped without a word.
"""
