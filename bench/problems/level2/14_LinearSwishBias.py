import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """A linear layer, swish, a bias."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(40, 36)
        self.bias = nn.Parameter(torch.randn(36))

    def forward(self, x):
        return F.silu(self.linear(x)) + self.bias


def get_inputs():
    return [torch.randn(18, 40)]


def get_init_inputs():
    return []
