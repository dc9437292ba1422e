import torch
from torch import nn


class Model(nn.Module):
    """A plain recurrent layer over a sequence."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(8, 12)

    def forward(self, x, h):
        return self.rnn(x, h)[0]


def get_inputs():
    return [torch.randn(9, 4, 8), torch.randn(1, 4, 12)]


def get_init_inputs():
    return []
