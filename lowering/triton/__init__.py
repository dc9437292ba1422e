"""KE-IR to Triton: one lowering for NVIDIA and AMD, which differ in the traits they pass."""

from lowering.triton.options import TritonOptions, Unsupported
from lowering.triton.program import lower
from lowering.triton.traits import Traits

__all__ = ["Traits", "TritonOptions", "Unsupported", "lower"]
