"""Tensors with guard zones and poison: what a kernel may not touch, and what it must write.

Used in worker processes only. Guard zones lie on both sides of every tensor in one storage, so a
store just outside is seen, and a load from outside reads the poison, not a plausible value.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

GUARD_BYTES = 4096
"""Keeps the tensor at the allocator's own alignment."""

_POISON_BYTES = (0xA5, 0x5A)
_BOOL_POISON = (1, 0)


@dataclass
class Guarded:
    """``tensor`` is a view in the middle of ``storage`` (uint8), filled with poison ``number``."""

    tensor: torch.Tensor
    storage: torch.Tensor
    number: int

    def guards_intact(self) -> bool:
        """Whether both guard zones still hold their poison."""
        byte = _POISON_BYTES[self.number]
        head, tail = self.storage[:GUARD_BYTES], self.storage[-GUARD_BYTES:]
        return bool((head == byte).all()) and bool((tail == byte).all())

    def poisoned(self) -> torch.Tensor:
        """Mask of the elements that hold the poison: not written, or written with that value."""
        if self.tensor.dtype.is_floating_point:
            return self.tensor.isnan()
        flat = _poison_like(self.tensor, self.number)
        return self.tensor == flat


def guarded_copy(tensor: torch.Tensor, device: str) -> Guarded:
    """A guarded copy of an input."""
    guarded = guarded_output(tensor.dtype, tuple(tensor.shape), device, 0)
    guarded.tensor.copy_(tensor)
    return guarded


def guarded_output(dtype: torch.dtype, shape: tuple[int, ...], device: str, number: int) -> Guarded:
    """An output filled with poison: NaN for floats, else the byte pattern of this number (0, 1)."""
    elements = 1
    for size in shape:
        elements *= size
    size = elements * dtype.itemsize
    padded = -(-size // 16) * 16
    storage = torch.full(
        (padded + 2 * GUARD_BYTES,), _POISON_BYTES[number], dtype=torch.uint8, device=device
    )
    tensor = storage[GUARD_BYTES : GUARD_BYTES + size].view(dtype).reshape(shape)
    tensor.copy_(_poison_like(tensor, number))
    return Guarded(tensor, storage, number)


def _poison_like(tensor: torch.Tensor, number: int) -> torch.Tensor:
    if tensor.dtype.is_floating_point:
        return torch.full_like(tensor, float("nan"))
    if tensor.dtype is torch.bool:
        return torch.full_like(tensor, bool(_BOOL_POISON[number]))
    pattern = torch.full_like(tensor, 0).reshape(-1).view(torch.uint8)
    pattern.fill_(_POISON_BYTES[number])
    return pattern.view(tensor.dtype).reshape(tensor.shape)
