"""The operator's interface: the schema, the loader that reports every fault at its place, secrets, the watcher."""
