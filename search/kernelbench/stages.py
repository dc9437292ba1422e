"""The stages that a problem goes through, and how those that need others depend on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LOAD, IMPORT, DERIVE, OP, PROGRAM = "load", "import", "derive", "op", "program"
COMPILE, NUMBERS, TIME = "compile", "numbers", "time"
KERNELBENCH, FLOAT32 = "kernelbench", "float32"

SEED = 42
"""KernelBench's own: of weights and inputs, and of the seeds of its trials."""

COMMON = {
    True: (LOAD, IMPORT, DERIVE, OP, PROGRAM),
    False: (LOAD, IMPORT, DERIVE),
}
"""Stages of the problem itself, by whether sizes are reduced. Full sizes are for devices: there
float64 on the CPU is out of reach, and ``op`` and ``program`` with it."""
ON_TARGET = {True: (COMPILE, NUMBERS), False: (COMPILE, KERNELBENCH, FLOAT32, NUMBERS, TIME)}
"""Stages on each target, by whether sizes are reduced."""
NEEDS: Mapping[str, tuple[str | tuple[str, ...], ...]] = {
    LOAD: (),
    IMPORT: (LOAD,),
    DERIVE: (IMPORT,),
    OP: (IMPORT,),
    PROGRAM: (DERIVE,),
    COMPILE: (DERIVE,),
    NUMBERS: (COMPILE,),
    KERNELBENCH: (COMPILE,),
    FLOAT32: (COMPILE,),
    TIME: (COMPILE, (KERNELBENCH, FLOAT32)),
}
"""What must have passed before a stage is tried; of several together, one of them. A stage that
fails is no reason to leave out another that can be tried without it."""

MEANING = {
    LOAD: "the file runs: `Model`, `get_inputs`, `get_init_inputs`",
    IMPORT: "through `torch.export` to an `op`",
    DERIVE: "from the `op` to a program of kernels",
    OP: "the `op` in float64 equals the module run in float64",
    PROGRAM: "the program in float64 equals the `op`",
    COMPILE: "the program compiles within the target's limits",
    NUMBERS: "what was compiled, against the module run in float64",
    KERNELBENCH: "KernelBench's own check, by PyTorch's defaults (cuDNN may round to TF32)",
    FLOAT32: "KernelBench's own check, with PyTorch in full float32",
    TIME: "time beside PyTorch eager and `torch.compile`",
}
"""For people: what it says that a stage passed."""


@dataclass(frozen=True)
class Plan:
    """What is to be done with each problem: ``targets`` as ``name.arch``.

    ``tf32``: convolutions and recurrent layers in TF32, as PyTorch computes them by its defaults.
    """

    reduced: bool
    targets: tuple[str, ...]
    tf32: bool = False

    @property
    def mode(self) -> str:
        return ("reduced" if self.reduced else "full") + ("-tf32" if self.tf32 else "")

    def stages(self) -> list[tuple[str, str]]:
        """All (stage, target) in order; the target is empty for those of the problem itself."""
        own = [(stage, "") for stage in COMMON[self.reduced]]
        return own + [(s, t) for t in self.targets for s in ON_TARGET[self.reduced]]
