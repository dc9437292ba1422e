import torch
from torch import nn


class Model(nn.Module):
    """Two layers; the last output is classified."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(10, 14, num_layers=2, batch_first=True)
        self.out = nn.Linear(14, 4)

    def forward(self, x, h, c):
        y, _ = self.lstm(x, (h, c))
        return self.out(y[:, -1])


def get_inputs():
    return [torch.randn(3, 7, 10), torch.randn(2, 3, 14), torch.randn(2, 3, 14)]


def get_init_inputs():
    return []
