import torch
from torch import nn


class Model(nn.Module):
    """Statistics of the batch; the running ones are updated."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(x)


def get_inputs():
    return [torch.randn(8, 6, 9, 9) + 0.5]


def get_init_inputs():
    return [6]
