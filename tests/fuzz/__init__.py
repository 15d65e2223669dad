"""Coverage-guided fuzzing: inputs that grow towards code not yet reached, judged by what each part promises.

`targets` says what is promised, `engine` drives them with atheris, `corpus` keeps the inputs that were worth keeping.
`python -m tests.fuzz` is the command; `test_fuzz.py` is what CI runs of it.
"""
