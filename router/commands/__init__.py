"""The commands, a module for each: what it is called, what it understands, what it does.

`cli` makes a parser of them. Each has

- `NAME`, as it is typed, and `HELP`, its line in the list of commands;
- `arguments(parser)`, which declares what it understands;
- `run(options)`, which does it and returns the exit status. Whatever takes long to load is imported there.
"""
