import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """Widen, filter by channel, weigh channels, narrow again."""

    def __init__(self):
        super().__init__()
        self.widen = nn.Conv2d(5, 15, 1, bias=False)
        self.norm = nn.BatchNorm2d(15)
        self.filter = nn.Conv2d(15, 15, 3, padding=1, groups=15, bias=False)
        self.down = nn.Conv2d(15, 3, 1)
        self.up = nn.Conv2d(3, 15, 1)
        self.narrow = nn.Conv2d(15, 5, 1, bias=False)

    def forward(self, x):
        y = torch.relu(self.norm(self.widen(x)))
        y = torch.relu(self.filter(y))
        weights = torch.sigmoid(self.up(torch.relu(self.down(F.adaptive_avg_pool2d(y, 1)))))
        return x + self.narrow(y * weights)


def get_inputs():
    return [torch.randn(3, 5, 9, 9)]


def get_init_inputs():
    return []
