import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """Two convolutions with pooling, then a classifier."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 5)
        self.second = nn.Conv2d(4, 6, 3)
        self.hidden = nn.Linear(6 * 3 * 3, 24)
        self.last = nn.Linear(24, 5)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.first(x)), 2)
        x = F.max_pool2d(torch.relu(self.second(x)), 2)
        return self.last(torch.relu(self.hidden(torch.flatten(x, 1))))


def get_inputs():
    return [torch.randn(4, 1, 20, 20)]


def get_init_inputs():
    return []
