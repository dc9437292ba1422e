"""What a PyTorch user would write; timed beside the generated kernel on a GPU."""

import torch
import torch.nn.functional as F


def baseline(x: torch.Tensor, w: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, (x.shape[-1],), w, c, eps=1e-5)
