import torch
from torch import nn


class Model(nn.Module):
    """Sums from each place on."""

    def forward(self, x):
        return x.flip(-1).cumsum(-1).flip(-1)


def get_inputs():
    return [torch.randn(8, 120)]


def get_init_inputs():
    return []
