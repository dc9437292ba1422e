import torch
from torch import nn


class Model(nn.Module):
    """Transposed in three dimensions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose3d(4, 3, 3, stride=2)

    def forward(self, x):
        return self.conv(x)


def get_inputs():
    return [torch.randn(2, 4, 5, 6, 4)]


def get_init_inputs():
    return []
