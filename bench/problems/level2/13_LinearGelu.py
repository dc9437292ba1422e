import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """A linear layer and GELU."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(48, 64)

    def forward(self, x):
        return F.gelu(self.linear(x))


def get_inputs():
    return [torch.randn(20, 48)]


def get_init_inputs():
    return []
