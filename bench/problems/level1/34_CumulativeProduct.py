import torch
from torch import nn


class Model(nn.Module):
    """Products up to each place."""

    def forward(self, x):
        return torch.cumprod(x, dim=0)


def get_inputs():
    return [1 + 0.1 * torch.randn(40, 25)]


def get_init_inputs():
    return []
