import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """In three dimensions."""

    def forward(self, x):
        return F.max_pool3d(x, 2)


def get_inputs():
    return [torch.randn(2, 4, 8, 10, 6)]


def get_init_inputs():
    return []
