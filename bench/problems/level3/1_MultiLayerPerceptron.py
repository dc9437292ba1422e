from itertools import pairwise

import torch
from torch import nn


class Model(nn.Module):
    """Three linear layers."""

    def __init__(self, sizes):
        super().__init__()
        layers = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x):
        return self.layers(x)


def get_inputs():
    return [torch.randn(6, 40)]


def get_init_inputs():
    return [[40, 64, 48, 10]]
