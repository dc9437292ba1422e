import torch
from torch import nn


class Model(nn.Module):
    """A window that is not square."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 10, (3, 5), padding=(1, 2), bias=False)

    def forward(self, x):
        return self.conv(x)


def get_inputs():
    return [torch.randn(3, 6, 20, 24)]


def get_init_inputs():
    return []
