import torch
from torch import nn


class Model(nn.Module):
    """A transposed convolution, its global mean, logsumexp."""

    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose2d(5, 7, 3)

    def forward(self, x):
        y = self.conv(x).mean(dim=(2, 3), keepdim=True)
        return torch.logsumexp(y, dim=1).sum(dim=1) * 10


def get_inputs():
    return [torch.randn(3, 5, 8, 8)]


def get_init_inputs():
    return []
