import torch
from torch import nn


class Model(nn.Module):
    """A convolution and a batch norm in training, scaled."""

    def __init__(self, scale):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.scale = scale

    def forward(self, x):
        return self.norm(self.conv(x)) * self.scale


def get_inputs():
    return [torch.randn(6, 3, 12, 12)]


def get_init_inputs():
    return [0.5]
