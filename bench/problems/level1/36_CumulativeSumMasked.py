import torch
from torch import nn


class Model(nn.Module):
    """Sums of what a mask lets through."""

    def forward(self, x, mask):
        return torch.cumsum(x * mask, dim=-1)


def get_inputs():
    return [torch.randn(10, 90), torch.randint(0, 2, (10, 90)).bool()]


def get_init_inputs():
    return []
