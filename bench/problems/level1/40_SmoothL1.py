import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """Quadratic near zero, linear far from it."""

    def forward(self, x, y):
        return F.smooth_l1_loss(x, y)


def get_inputs():
    return [torch.randn(30, 40), torch.randn(30, 40)]


def get_init_inputs():
    return []
