import torch
from torch import nn


class Model(nn.Module):
    """Transposed, with taps apart."""

    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose1d(6, 5, 4, stride=1, dilation=3)

    def forward(self, x):
        return self.conv(x)


def get_inputs():
    return [torch.randn(3, 6, 30)]


def get_init_inputs():
    return []
