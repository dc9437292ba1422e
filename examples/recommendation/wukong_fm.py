"""What a PyTorch user would write; timed beside the generated kernel on a GPU."""

import torch


def baseline(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x @ (x.transpose(1, 2) @ y)
