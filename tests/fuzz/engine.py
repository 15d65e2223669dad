"""The one module that knows atheris: it instruments the router, and lets libFuzzer drive a target."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tests.fuzz.mutation import mutated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fuzz.targets import Target

CORPUS = Path(__file__).parent / "corpus"

INPUT_S_MAX = 25
"""Seconds that one input may take before it counts as a fault: a hundred times what any of them takes."""


def target(name: str) -> Target:
    """The module of this name."""
    return cast("Target", importlib.import_module(f"tests.fuzz.targets.{name}"))


def run(name: str, folder: Path, options: Sequence[str], *, keep: bool = False) -> None:
    """Fuzz until an option ends it, or a fault does. Never returns: libFuzzer ends the process.

    Args:
        name: The target.
        folder: Where new inputs go, and in `faults` those that broke a promise.
        options: Of libFuzzer, behind our own.
        keep: Try nothing new, but add to the corpus what reaches further than all that is there.
    """
    atheris = importlib.import_module("atheris")  # here, for it is not made for every platform
    with atheris.instrument_imports(include=["router"], enable_loader_override=False):
        tried = target(name)
    inputs, faults = folder / "inputs", folder / "faults"
    inputs.mkdir(parents=True, exist_ok=True)
    faults.mkdir(exist_ok=True)
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in tried.WORDS))
    ours = [f"-dict={words}", f"-max_len={tried.BYTES_MAX}", f"-timeout={INPUT_S_MAX}", f"-artifact_prefix={faults}/"]
    folders = [str(inputs), str(CORPUS / name)]
    if keep:
        ours += ["-merge=1", "-use_counters=0"]  # of inputs that run the same lines, one
        folders.reverse()

    def mutate(data: bytes, bytes_max: int, seed: int) -> bytes:
        rng = random.Random(seed)
        return mutated(data, rng, tried.WORDS, lambda each: atheris.Mutate(each, bytes_max))[:bytes_max]

    # By its first word libFuzzer starts itself again where it merges.
    itself = f"{sys.executable} -m tests.fuzz {name} --folder={folder}"
    atheris.Setup([itself, *ours, *options, *folders], tried.check, custom_mutator=mutate)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    """A word as libFuzzer's dictionaries write it."""
    return "".join(f"\\x{byte:02x}" for byte in word)
