import torch
from torch import nn


class Model(nn.Module):
    """Statistics of each channel of each sample."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.InstanceNorm1d(channels, affine=True)

    def forward(self, x):
        return self.norm(x)


def get_inputs():
    return [torch.randn(4, 10, 65)]


def get_init_inputs():
    return [10]
