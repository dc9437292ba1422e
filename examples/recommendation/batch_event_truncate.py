"""What a PyTorch user would write; timed beside the generated kernel on a GPU."""

import torch
import torch.nn.functional as F


def baseline(
    limit: torch.Tensor, outer: torch.Tensor, inner: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """With as much room for the results as the inputs take."""
    kept = torch.minimum(outer, limit[:, None])
    counts = outer.flatten()
    begins = (counts.cumsum(0) - counts).repeat_interleave(counts)
    place = torch.arange(len(begins), device=outer.device) - begins
    keep = place < kept.flatten().repeat_interleave(counts)
    inner_out, values_out = inner[keep], values[keep.repeat_interleave(inner)]
    return (
        kept,
        F.pad(inner_out, (0, len(inner) - len(inner_out))),
        F.pad(values_out, (0, len(values) - len(values_out))),
    )
