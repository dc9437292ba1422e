import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """Over a dimension that is not the last."""

    def forward(self, x):
        return F.log_softmax(x, dim=1)


def get_inputs():
    return [torch.randn(4, 21, 10, 6)]


def get_init_inputs():
    return []
