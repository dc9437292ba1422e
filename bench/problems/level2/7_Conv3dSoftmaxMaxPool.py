import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """In three dimensions: softmax over channels, pooled twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(2, 6, 3)

    def forward(self, x):
        y = torch.softmax(self.conv(x), dim=1)
        return F.max_pool3d(F.max_pool3d(y, 2), 2)


def get_inputs():
    return [torch.randn(2, 2, 10, 10, 10)]


def get_init_inputs():
    return []
