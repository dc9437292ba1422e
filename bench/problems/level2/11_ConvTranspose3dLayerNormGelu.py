import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """A transposed convolution, layer norm, GELU."""

    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose3d(4, 6, 4, stride=2, padding=1)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        return F.gelu(self.norm(self.conv(x)))


def get_inputs():
    return [torch.randn(2, 4, 3, 4, 4)]


def get_init_inputs():
    return []
