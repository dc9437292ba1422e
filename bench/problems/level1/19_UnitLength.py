import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """Each row divided by its Euclidean norm."""

    def forward(self, x):
        return F.normalize(x, dim=1)


def get_inputs():
    return [torch.randn(40, 77)]


def get_init_inputs():
    return []
