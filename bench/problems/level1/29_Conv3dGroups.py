import torch
from torch import nn


class Model(nn.Module):
    """In three dimensions, in two groups."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(4, 6, 3, groups=2)

    def forward(self, x):
        return self.conv(x)


def get_inputs():
    return [torch.randn(2, 4, 8, 9, 7)]


def get_init_inputs():
    return []
