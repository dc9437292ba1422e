import torch
from torch import nn


class Model(nn.Module):
    """Grouped convolutions with channels exchanged between the groups."""

    def __init__(self, groups):
        super().__init__()
        self.groups = groups
        self.first = nn.Conv2d(12, 12, 1, groups=groups)
        self.second = nn.Conv2d(12, 12, 3, padding=1, groups=12)

    def forward(self, x):
        b, c, h, w = x.shape
        y = self.first(x).view(b, self.groups, c // self.groups, h, w)
        y = y.transpose(1, 2).reshape(b, c, h, w)
        return torch.relu(x + self.second(y))


def get_inputs():
    return [torch.randn(2, 12, 7, 7)]


def get_init_inputs():
    return [3]
