import torch
from torch import nn


class Model(nn.Module):
    """A transposed convolution, bias, clamp, scale."""

    def __init__(self, scale):
        super().__init__()
        self.conv = nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1)
        self.bias = nn.Parameter(torch.randn(4, 1, 1))
        self.scale = scale

    def forward(self, x):
        y = self.conv(x) + self.bias
        return torch.clamp(y, -1.0, 1.0) * self.scale


def get_inputs():
    return [torch.randn(2, 6, 7, 7)]


def get_init_inputs():
    return [2.0]
