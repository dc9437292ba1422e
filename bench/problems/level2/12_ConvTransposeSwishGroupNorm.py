import torch
from torch import nn


class Model(nn.Module):
    """A transposed convolution, swish, group norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose2d(4, 8, 3)
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(torch.sigmoid(y) * y)


def get_inputs():
    return [torch.randn(2, 4, 6, 5)]


def get_init_inputs():
    return []
