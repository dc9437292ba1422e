import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """Causal attention written out, and a perceptron, each with a residual."""

    def __init__(self, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(24), nn.LayerNorm(24)
        self.qkv, self.project = nn.Linear(24, 72), nn.Linear(24, 24)
        self.up, self.down = nn.Linear(24, 48), nn.Linear(48, 24)
        self.register_buffer("mask", torch.tril(torch.ones(32, 32)))

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (
            p.view(b, t, self.heads, d // self.heads).transpose(1, 2)
            for p in self.qkv(self.norm1(x)).split(d, dim=2)
        )
        scores = (q @ k.transpose(-2, -1)) / (d // self.heads) ** 0.5
        scores = scores.masked_fill(self.mask[:t, :t] == 0, float("-inf"))
        y = (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(b, t, d)
        x = x + self.project(y)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def get_inputs():
    return [torch.randn(2, 10, 24)]


def get_init_inputs():
    return [3]
