"""Which families a problem belongs to, by the functions of PyTorch that it calls."""

from __future__ import annotations

from collections.abc import Collection, Iterable

_FAMILIES: dict[str, tuple[str, ...]] = {
    "transposed convolution": ("conv_transpose",),
    "convolution": ("conv1d", "conv2d", "conv3d"),
    "recurrent": ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell",
                  "rnn_relu_cell"),
    "attention": ("scaled_dot_product_attention", "multi_head_attention_forward"),
    "matrix product": ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "mv", "dot",
                       "__matmul__", "__rmatmul__", "bilinear"),
    "normalisation": ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "norm",
                      "normalize", "local_response_norm", "linalg_norm", "linalg_vector_norm",
                      "vector_norm", "matrix_norm"),
    "max pooling": ("max_pool", "adaptive_max_pool", "fractional_max_pool"),
    "average pooling": ("avg_pool", "adaptive_avg_pool"),
    "softmax": ("softmax", "log_softmax", "softmin"),
    "logsumexp": ("logsumexp",),
    "loss": ("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
             "kl_div", "triplet_margin_loss", "hinge_embedding_loss", "margin_ranking_loss",
             "cosine_embedding_loss", "binary_cross_entropy", "soft_margin_loss",
             "poisson_nll_loss", "gaussian_nll_loss"),
    "scan": ("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"),
    "reduction": ("sum", "mean", "max", "min", "amax", "amin", "prod", "argmax", "argmin", "var",
                  "std", "any", "all", "median"),
    "sorting": ("sort", "argsort", "topk", "searchsorted", "bucketize"),
    "indexing": ("embedding", "embedding_bag", "gather", "index_select", "scatter_add",
                 "index_add", "scatter", "take_along_dim"),
}  # fmt: skip
"""Family -> names of functions. A name that ends without a digit stands for its forms with one."""
_DIMENSIONAL = ("conv_transpose", "max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool",
                "fractional_max_pool")  # fmt: skip
_WEIGHERS = ("softmax", "masked_fill", "masked_fill_")


def families(called: Collection[str], products: int) -> list[str]:
    """The families of the functions ``called``, ``pointwise`` when there is no other.

    Attention is also what multiplies activations with each other (``products`` says how often)
    twice and has a softmax or a mask, whoever wrote it.
    """
    names = {_plain(n) for n in called}
    found = [family for family, members in _FAMILIES.items() if names & set(members)]
    own = products >= 2 and bool(names & set(_WEIGHERS))
    if own and "attention" not in found:
        found.append("attention")
    return sorted(found) or ["pointwise"]


def _plain(name: str) -> str:
    """``max_pool2d_with_indices`` and ``avg_pool3d`` without what only says how many dimensions."""
    for stem in _DIMENSIONAL:
        if name.startswith(stem):
            return stem
    return name


def in_order(found: Iterable[Iterable[str]]) -> list[str]:
    """Those that occur, in the order of the table."""
    have = {f for families_ in found for f in families_}
    return [f for f in (*_FAMILIES, "pointwise") if f in have]
