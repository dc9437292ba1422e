import torch
from torch import nn


class Model(nn.Module):
    """Transposed, strided, with output padding and groups."""

    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            8, 4, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False
        )

    def forward(self, x):
        return self.conv(x)


def get_inputs():
    return [torch.randn(2, 8, 9, 10)]


def get_init_inputs():
    return []
