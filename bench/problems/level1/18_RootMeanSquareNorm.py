import torch
from torch import nn


class Model(nn.Module):
    """Over channels, written out."""

    def __init__(self, eps):
        super().__init__()
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + self.eps)


def get_inputs():
    return [torch.randn(4, 20, 6, 6)]


def get_init_inputs():
    return [1e-5]
