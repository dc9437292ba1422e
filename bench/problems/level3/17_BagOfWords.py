import torch
from torch import nn


class Model(nn.Module):
    """Embeddings summed for each text, then classified."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.out = nn.Linear(16, 4)

    def forward(self, words):
        return self.out(torch.tanh(self.embedding(words).sum(dim=1)))


def get_inputs():
    return [torch.randint(0, 50, (6, 9))]


def get_init_inputs():
    return []
