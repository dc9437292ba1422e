"""Modules and functions with small inputs, by what they exercise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Made = tuple[Any, tuple[Any, ...]]


def r(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def activations(x: torch.Tensor) -> Any:
    return (
        F.softplus(x), F.mish(x), F.hardswish(x), F.selu(x), F.elu(x), F.hardsigmoid(x),
        F.leaky_relu(x), torch.tanh(x), F.silu(x), F.hardtanh(x), F.gelu(x, approximate="tanh"),
        F.gelu(x), F.logsigmoid(x), F.softsign(x), F.relu6(x), F.celu(x), torch.sinh(x),
        torch.sign(x), torch.expm1(x), torch.log1p(x.abs()), x**3, x.abs() ** 0.5, torch.round(x),
    )  # fmt: skip


def reductions(x: torch.Tensor) -> Any:
    return (
        x.sum(), x.mean(1), x.amax((0, 1)), x.max(1), x.min(0), x.argmax(1), x.argmax(), x.std(1),
        x.var(0, unbiased=False), x.prod(1), torch.logsumexp(x, 1), torch.norm(x),
        torch.norm(x, p=1, dim=1), x.cumsum(1), x.cumprod(0), (x > 0).any(1), F.log_softmax(x, 0),
        x.flip(1).cumsum(1).flip(1), torch.logsumexp(x, (0, 1), keepdim=True), torch.var_mean(x),
    )  # fmt: skip


def losses(x: torch.Tensor, t: torch.Tensor) -> Any:
    return (
        F.mse_loss(x, t), F.smooth_l1_loss(x, t), F.huber_loss(x, t), F.l1_loss(x, t),
        F.kl_div(F.log_softmax(x, 1), F.softmax(t, 1), reduction="batchmean"),
        F.triplet_margin_loss(x, t, x * 2), F.cosine_embedding_loss(x, t, torch.ones(4)),
        F.cross_entropy(x, torch.tensor([1, 2, 0, 4])), F.binary_cross_entropy_with_logits(x, t),
    )  # fmt: skip


def integers(a: torch.Tensor, b: torch.Tensor) -> Any:
    return (a // b, a % b, torch.div(a, b, rounding_mode="trunc"), a * b + 1, (a > b).sum(),
            a.to(torch.int8), (a > 0) & (b > 0), ~(a > 0), torch.where(a > b, a, b))  # fmt: skip


def views(x: torch.Tensor) -> torch.Tensor:
    y = x.reshape(6, 4).t().reshape(2, 3, 4).permute(2, 0, 1).flip(0)
    return y[1:, :, ::2].unsqueeze(1)


def indexing(x: torch.Tensor, i: torch.Tensor) -> Any:
    return x.gather(1, i), x[i[:, 0]], x[:, i[0]], x[i[:, 0], i[:, 1]], x.index_select(1, i[:, 1])


def causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def triangles(a: torch.Tensor, b: torch.Tensor) -> Any:
    return torch.triu(a) @ torch.tril(b), torch.einsum("bijl,lk->bijk", a[None, None], b)


def masked(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x.masked_fill(torch.tril(torch.ones(4, 4)) == 0, float("-inf")), -1)


def joined(x: torch.Tensor, y: torch.Tensor) -> Any:
    return torch.cat([x, y * 2, x], 1), torch.stack([x, x + 1], 1), x.repeat(2, 2), y.chunk(2, 1)


def products(a: torch.Tensor, b: torch.Tensor, v: torch.Tensor) -> Any:
    return a @ b, a @ v, v @ b, torch.addmm(a[0, :, :1], a[0], b, beta=2.0, alpha=0.5), v @ v


def rnn(make: Any, *, steps: int = 4, **options: Any) -> Made:
    return make(3, 5, batch_first=True, **options), (r(2, steps, 3),)


class LastState(nn.Module):  # type: ignore[misc]
    """An LSTM of which only the last hidden (0) or cell state (1) is given."""

    def __init__(self, which: int) -> None:
        super().__init__()
        self.lstm, self.which = nn.LSTM(3, 5, num_layers=2), which

    def forward(self, x: torch.Tensor) -> Any:
        return self.lstm(x)[1][self.which]


CASES: dict[str, Callable[[], Made]] = {
    "linear": lambda: (nn.Linear(5, 7), (r(3, 5),)),
    "mlp": lambda: (nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 2)), (r(3, 5),)),
    "conv_grouped": lambda: (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (r(2, 4, 9, 8),)),
    "conv_large_groups": lambda: (nn.Conv2d(10, 64, 3, padding=1, groups=2), (r(2, 10, 5, 6),)),
    "conv_large_groups_1x1": lambda: (nn.Conv1d(99, 99, 1, groups=3, bias=False), (r(2, 99, 7),)),
    "conv_transposed_large_groups": lambda: (
        nn.ConvTranspose2d(12, 64, 3, groups=2),
        (r(1, 12, 4, 5),),
    ),
    "conv_transposed_strided_large_groups": lambda: (
        nn.ConvTranspose2d(18, 96, 3, stride=2, padding=1, groups=3),
        (r(1, 18, 4, 5),),
    ),
    "conv_depthwise": lambda: (nn.Conv2d(4, 4, 3, groups=4, dilation=2), (r(2, 4, 9, 8),)),
    "conv1d": lambda: (nn.Conv1d(3, 4, 5, padding=2), (r(2, 3, 11),)),
    "conv3d": lambda: (nn.Conv3d(3, 4, (1, 2, 3), padding=1), (r(1, 3, 4, 4, 5),)),
    "conv_transposed": lambda: (
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2),
        (r(2, 4, 5, 6),),
    ),
    "conv_transposed_3d": lambda: (
        nn.ConvTranspose3d(3, 2, 3, stride=(1, 2, 3)),
        (r(2, 3, 4, 3, 3),),
    ),
    "conv_transposed_by_two": lambda: (
        nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1),
        (r(2, 3, 4, 5),),
    ),
    "conv_transposed_dilated": lambda: (
        nn.ConvTranspose1d(4, 6, 5, stride=3, padding=2, dilation=2, groups=2),
        (r(2, 4, 7),),
    ),
    "conv_transposed_sparse": lambda: (
        nn.ConvTranspose2d(3, 4, (3, 2), stride=(2, 3), padding=(1, 2), dilation=(4, 3)),
        (r(2, 3, 4, 5),),
    ),
    "conv_transposed_common_factor": lambda: (
        nn.ConvTranspose1d(4, 6, 3, stride=4, padding=1, dilation=6),
        (r(2, 4, 5),),
    ),
    "batch_norm_training": lambda: (nn.BatchNorm2d(4), (r(3, 4, 5, 5),)),
    "batch_norm": lambda: (nn.BatchNorm2d(4).eval(), (r(3, 4, 5, 5),)),
    "group_norm": lambda: (nn.GroupNorm(2, 4), (r(3, 4, 5, 5),)),
    "instance_norm": lambda: (nn.InstanceNorm2d(4), (r(3, 4, 5, 5),)),
    "layer_norm": lambda: (nn.LayerNorm((5, 6)), (r(3, 4, 5, 6),)),
    "max_pool": lambda: (nn.MaxPool2d(3, 2, 1, dilation=2), (r(3, 4, 9, 9),)),
    "max_pool_indices": lambda: (
        nn.MaxPool2d(3, 2, 1, ceil_mode=True, return_indices=True),
        (r(2, 3, 8, 8),),
    ),
    "avg_pool": lambda: (nn.AvgPool2d(3, 2, 1), (r(3, 4, 9, 9),)),
    "avg_pool_edges": lambda: (
        nn.AvgPool2d(3, 2, 1, count_include_pad=False, ceil_mode=True),
        (r(3, 4, 8, 9),),
    ),
    "adaptive_avg_pool_uneven": lambda: (nn.AdaptiveAvgPool2d((3, 5)), (r(2, 3, 8, 7),)),
    "adaptive_avg_pool": lambda: (nn.AdaptiveAvgPool2d(1), (r(2, 3, 8, 8),)),
    "flatten": lambda: (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)),
        (r(2, 3, 8, 8),),
    ),
    "views": lambda: (views, (r(4, 6),)),
    "channel_shuffle": lambda: (
        lambda x: x.view(2, 3, 4, 5, 5).transpose(1, 2).reshape(2, 12, 5, 5),
        (r(2, 12, 5, 5),),
    ),
    "joined": lambda: (joined, (r(2, 3), r(2, 4))),
    "pad": lambda: (lambda x: F.pad(x, (1, 2, 0, -1), value=3.0), (r(4, 5),)),
    "roll": lambda: (lambda x: (torch.roll(x, (1, -2), (0, 1)), torch.roll(x, 3)), (r(4, 5),)),
    "pixel_shuffle": lambda: (nn.PixelShuffle(2), (r(1, 8, 3, 3),)),
    "causal": lambda: (causal, (r(2, 3, 5, 4), r(2, 3, 5, 4), r(2, 3, 5, 4))),
    "multihead": lambda: (
        nn.MultiheadAttention(8, 2, batch_first=True),
        (r(2, 3, 8), r(2, 3, 8), r(2, 3, 8)),
    ),
    "transformer_layer": lambda: (
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
        (r(2, 3, 8),),
    ),
    "activations": lambda: (activations, (r(4, 5),)),
    "reductions": lambda: (reductions, (r(4, 5),)),
    "losses": lambda: (losses, (r(4, 5), torch.rand(4, 5))),
    "integers": lambda: (integers, (torch.tensor([[-7, 8, 300]]), torch.tensor([[2, -3, 3]]))),
    "embedding": lambda: (nn.Embedding(10, 4), (torch.tensor([[1, 2], [3, 9]]),)),
    "indexing": lambda: (indexing, (r(4, 5), torch.tensor([[1, 2], [3, 0], [1, 1], [0, 0]]))),
    "triangles": lambda: (triangles, (r(4, 4), r(4, 4))),
    "masked": lambda: (masked, (r(4, 4),)),
    "products": lambda: (products, (r(2, 3, 4), r(4, 4), r(4))),
    "rnn": lambda: rnn(nn.RNN),
    "rnn_relu_reverse": lambda: rnn(nn.RNN, nonlinearity="relu", bidirectional=True, bias=False),
    "lstm": lambda: rnn(nn.LSTM),
    "lstm_layers": lambda: rnn(nn.LSTM, num_layers=2, bidirectional=True),
    "lstm_only_h_n": lambda: (LastState(0), (r(4, 2, 3),)),
    "lstm_only_c_n": lambda: (LastState(1), (r(4, 2, 3),)),
    "gru_layers": lambda: rnn(nn.GRU, num_layers=2, bidirectional=True),
    "gru_one_step": lambda: rnn(nn.GRU, steps=1),
}
