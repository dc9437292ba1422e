import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """In three dimensions."""

    def forward(self, x):
        return F.avg_pool3d(x, 3, stride=2)


def get_inputs():
    return [torch.randn(2, 3, 9, 9, 11)]


def get_init_inputs():
    return []
