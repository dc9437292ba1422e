import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """A linear layer, group norm, hardtanh."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(32, 24)
        self.norm = nn.GroupNorm(4, 24)

    def forward(self, x):
        return F.hardtanh(self.norm(self.linear(x)), -2.0, 2.0)


def get_inputs():
    return [torch.randn(16, 32)]


def get_init_inputs():
    return []
