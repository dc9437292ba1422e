import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """Four branches side by side, joined by channel."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(6, 4, 1)
        self.three = nn.Sequential(nn.Conv2d(6, 3, 1), nn.Conv2d(3, 5, 3, padding=1))
        self.five = nn.Sequential(nn.Conv2d(6, 2, 1), nn.Conv2d(2, 3, 5, padding=2))
        self.project = nn.Conv2d(6, 2, 1)

    def forward(self, x):
        pooled = self.project(F.max_pool2d(x, 3, stride=1, padding=1))
        return torch.cat([self.one(x), self.three(x), self.five(x), pooled], dim=1)


def get_inputs():
    return [torch.randn(2, 6, 10, 10)]


def get_init_inputs():
    return []
