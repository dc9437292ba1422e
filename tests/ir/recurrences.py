"""Recurrent cells as ops, and the same in numpy, written as loops over scalars of time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ke_ir.ir import OpDef

Array = np.ndarray[Any, Any]
Given = Mapping[str, Array]

RNN = """
op @rnn(x: f32[T, B, I], h0: f32[B, H], u: f32[H, I], w: f32[H, H], c: f32[H])
  -> (h: f32[T, B, H])
dims T in 1..4096 = 6, B in 1..4096 = 3, I = 5, H = 9
{
  a[t, b, j] = sum[i](x[t, b, i] * u[j, i]) + c[j]
  h[t, b, j] = tanh(a[t, b, j] + sum[k](h[t - 1, b, k else h0[b, k]] * w[j, k]))
}
"""
RNN_REVERSE = RNN.replace("@rnn", "@rnn_reverse").replace("h[t - 1,", "h[t + 1,")

LSTM = """
op @lstm(x: f32[T, B, I], h0: f32[B, H], c0: f32[B, H], u: f32[4, H, I], w: f32[4, H, H],
         v: f32[4, H]) -> (h: f32[T, B, H], last: f32[B, H])
dims T in 1..4096 = 6, B in 1..4096 = 3, I = 5, H = 9
{
  a[g, t, b, j] = sum[i](x[t, b, i] * u[g, j, i]) + v[g, j]
  i[t, b, j] = sigmoid(a[0, t, b, j] + sum[k](h[t - 1, b, k else h0[b, k]] * w[0, j, k]))
  f[t, b, j] = sigmoid(a[1, t, b, j] + sum[k](h[t - 1, b, k else h0[b, k]] * w[1, j, k]))
  g[t, b, j] = tanh(a[2, t, b, j] + sum[k](h[t - 1, b, k else h0[b, k]] * w[2, j, k]))
  o[t, b, j] = sigmoid(a[3, t, b, j] + sum[k](h[t - 1, b, k else h0[b, k]] * w[3, j, k]))
  c[t, b, j] = f[t, b, j] * c[t - 1, b, j else c0[b, j]] + i[t, b, j] * g[t, b, j]
  h[t, b, j] = o[t, b, j] * tanh(c[t, b, j])
  last[b, j] = c[T - 1, b, j]
}
"""
LSTM_REVERSE = (
    LSTM.replace("@lstm", "@lstm_reverse").replace("t - 1", "t + 1").replace("T - 1", "0")
)

GRU = """
op @gru(x: f32[B, T, I], u: f32[3, H, I], w: f32[3, H, H], v: f32[3, H], p: f32[H])
  -> (y: f16[B, T, H])
dims T in 1..4096 = 6, B in 1..4096 = 3, I = 5, H = 9
{
  n[t, b, j] = tanh(sum[i](x[b, t, i] * u[2, j, i]) + v[2, j]
    + sigmoid(sum[i](x[b, t, i] * u[0, j, i]) + sum[k](y[b, t - 1, k else 0.0] * w[0, j, k])
              + v[0, j]) * (sum[k](y[b, t - 1, k else 0] * w[2, j, k]) + p[j]))
  z[t, b, j] = sigmoid(sum[i](x[b, t, i] * u[1, j, i]) + v[1, j]
    + sum[k](y[b, t - 1, k else 0.0] * w[1, j, k]))
  y[b, t, j] = (1 - z[t, b, j]) * n[t, b, j] + z[t, b, j] * y[b, t - 1, j else 0.0]
}
"""
GRU_REVERSE = GRU.replace("@gru", "@gru_reverse").replace("t - 1", "t + 1")
CELLS = {
    "rnn": RNN, "rnn_reverse": RNN_REVERSE, "lstm": LSTM, "lstm_reverse": LSTM_REVERSE,
    "gru": GRU, "gru_reverse": GRU_REVERSE,
}  # fmt: skip
EXTRA = {
    # A step's number, lengths of rows, gathered elements, integers and conditions.
    "lengths": """
op @lengths(x: f32[B, T], n: i32[B]) -> (y: f32[B], k: i32[T, B], s: i1[T, B])
dims T in 1..4096 = 7, B in 1..4096 = 4
{
  h[t, b] = select(t < n[b], h[t - 1, b else 1.5] * 0.5 + x[b, t] * (t + 1), h[t - 1, b else -1])
  k[t, b] = k[t - 1, b else b * 10] + select(x[b, (t * 3) % T] > 0, 1, 2)
  s[t, b] = s[t - 1, b else 1 < 0] or x[b, t] > 1
  y[b] = h[T - 1, b]
}
""",
    # One layer on another, both ways, and what is computed between them.
    "layers": """
op @layers(x: f32[T, B], w: f32[B, B]) -> (y: f32[T, B], z: f32[B])
dims T in 1..4096 = 5, B in 1..4096 = 4
{
  f[t, b] = tanh(x[t, b] + sum[k](f[t - 1, k else 0.1] * w[b, k]))
  r[t, b] = tanh(x[t, b] * 2 + sum[k](r[t + 1, k else 0.2] * w[k, b]))
  m[t, b] = f[t, b] + r[t, b] + sum[k](f[t, k])
  y[t, b] = y[t - 1, b else sum[k](x[0, k])] * 0.5 + m[t, b]
  z[b] = sum[t](y[t, b])
}
""",
    # Neighbours at the step before; beyond the ends of a row it is `else` too.
    "diffusion": """
op @diffusion(u: f32[B]) -> (y: f32[T, B])
dims T in 1..4096 = 6, B in 1..4096 = 8
{
  y[t in 0 to T, b] = 0.5 * y[t - 1, b else u[b]]
    + 0.25 * (y[t - 1, b - 1 else 0.0] + y[t - 1, b + 1 else u[b] + t])
}
""",
    # All gates in one product, of which slices are read.
    "packed": """
op @packed(x: f32[T, B, H], u: f32[P, H], w: f32[P, H]) -> (h: f32[T, B, H])
dims T in 1..4096 = 6, B in 1..4096 = 3, H = 9, P = 4 * H
{
  g[t, b, j] = sum[k](x[t, b, k] * u[j, k]) + sum[k](h[t - 1, b, k else 0.0] * w[j, k])
  c[t, b, k in 0 to H] = sigmoid(g[t, b, k + H]) * c[t - 1, b, k else 0.0]
    + sigmoid(g[t, b, k]) * tanh(g[t, b, k + 2 * H])
  h[t, b, k] = sigmoid(g[t, b, k + 3 * H]) * tanh(c[t, b, k])
}
""",
    # A running maximum, and a sum that is scaled as it grows.
    "running_logsumexp": """
op @running_logsumexp(x: f32[B, T]) -> (y: f32[B, T], z: f16[B, T])
dims T in 1..4096 = 9, B in 1..4096 = 4
{
  m[b, t] = max(m[b, t - 1 else -inf], x[b, t])
  s[b, t] = s[b, t - 1 else 0.0] * exp(m[b, t - 1 else -inf] - m[b, t]) + exp(x[b, t] - m[b, t])
  y[b, t] = m[b, t] + log(s[b, t])
  u[t, b] = v[b, t + 1 else 0.25] * 0.5 + x[b, t]
  v[b, t] = u[t, b] - u[t + 1, b else x[b, 0]] * 0.25
  z[b, t] = v[b, t] + u[t, b]
}
""",
    # States of a diagonal state-space model: an expansion, a decay, and a projection.
    "state_space": """
op @state_space(x: f32[B, T, D], d: f32[B, T, D], a: f32[D, N], p: f32[B, T, N], q: f32[B, T, N])
  -> (y: f32[B, T, D])
dims T in 1..4096 = 6, B in 1..4096 = 2, D = 5, N = 4
{
  h[t, b, i, n] = exp(a[i, n] * abs(d[b, t, i])) * h[t - 1, b, i, n else 0]
    + d[b, t, i] * p[b, t, n] * x[b, t, i]
  y[b, t, i] = sum[n](h[t, b, i, n] * q[b, t, n])
}
""",
}


def inputs_of(o: OpDef, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """Normal floats that keep a recurrence tame; lengths from 0 to 5."""
    rng = np.random.default_rng(seed)
    out: dict[str, Array] = {}
    for p in o.inputs:
        shape = p.type.sizes(o.sizes(sizes))
        if p.type.dtype.is_int:
            out[p.name] = rng.integers(0, 6, shape).astype(p.type.dtype.numpy())
        else:
            out[p.name] = (rng.standard_normal(shape) * 0.4).astype(p.type.dtype.numpy())
    if "a" in out:
        out["a"] = -np.abs(out["a"])
    return out


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def rnn(g: Given, order: Callable[[range], Any]) -> dict[str, Array]:
    x, h = g["x"], g["h0"]
    out = np.zeros((*x.shape[:2], h.shape[1]))
    for t in order(range(len(x))):
        out[t] = h = np.tanh(x[t] @ g["u"].T + g["c"] + h @ g["w"].T)
    return {"h": out}


def lstm(g: Given, order: Callable[[range], Any]) -> dict[str, Array]:
    x, h, c = g["x"], g["h0"], g["c0"]
    out = np.zeros((*x.shape[:2], h.shape[1]))
    for t in order(range(len(x))):
        gates = [x[t] @ g["u"][n].T + h @ g["w"][n].T + g["v"][n] for n in range(4)]
        c = sigmoid(gates[1]) * c + sigmoid(gates[0]) * np.tanh(gates[2])
        out[t] = h = sigmoid(gates[3]) * np.tanh(c)
    return {"h": out, "last": c}


def gru(g: Given, order: Callable[[range], Any]) -> dict[str, Array]:
    x = g["x"].transpose(1, 0, 2)
    out = np.zeros((*x.shape[:2], g["w"].shape[1]))
    h = np.zeros_like(out[0])
    for t in order(range(len(x))):
        inner = [x[t] @ g["u"][n].T + g["v"][n] for n in range(3)]
        back = [h @ g["w"][n].T for n in range(3)]
        r, z = sigmoid(inner[0] + back[0]), sigmoid(inner[1] + back[1])
        out[t] = h = (1 - z) * np.tanh(inner[2] + r * (back[2] + g["p"])) + z * h
    return {"y": out.transpose(1, 0, 2)}


def lengths(g: Given) -> dict[str, Array]:
    x, n = g["x"], g["n"]
    size, steps = x.shape
    y, k, s = np.zeros(size), np.zeros((steps, size), int), np.zeros((steps, size), bool)
    for b in range(size):
        h, count, seen = 1.5 if n[b] > 0 else -1.0, b * 10, False
        for t in range(steps):
            h = h * 0.5 + x[b, t] * (t + 1) if t < n[b] else h
            count += 1 if x[b, t * 3 % steps] > 0 else 2
            seen = seen or bool(x[b, t] > 1)
            k[t, b], s[t, b] = count, seen
        y[b] = h
    return {"y": y, "k": k, "s": s}


def layers(g: Given) -> dict[str, Array]:
    x, w = g["x"].astype(np.float64), g["w"].astype(np.float64)
    steps, size = x.shape
    f, r, y = np.zeros((3, steps, size))
    h = np.full(size, 0.1)
    for t in range(steps):
        f[t] = h = np.tanh(x[t] + w @ h)
    h = np.full(size, 0.2)
    for t in reversed(range(steps)):
        r[t] = h = np.tanh(2 * x[t] + w.T @ h)
    h = np.full(size, x[0].sum())
    for t in range(steps):
        y[t] = h = h * 0.5 + f[t] + r[t] + f[t].sum()
    return {"y": y, "z": y.sum(0)}


def packed(g: Given) -> dict[str, Array]:
    wide = g["w"].shape[1]
    parts = {n: g[n].reshape(4, wide, wide) for n in "uw"}
    zero = np.zeros((g["x"].shape[1], wide))
    found = lstm({**parts, "x": g["x"], "h0": zero, "c0": zero, "v": np.zeros((4, wide))}, list)
    return {"h": found["h"]}


def running_logsumexp(g: Given) -> dict[str, Array]:
    x = g["x"].astype(np.float64)
    z, u, v = np.zeros(x.shape), x[:, 0], np.full(len(x), 0.25)
    for t in reversed(range(x.shape[1])):
        u, last = v * 0.5 + x[:, t], u
        v = u - last * 0.25
        z[:, t] = v + u
    return {"y": np.logaddexp.accumulate(x, 1), "z": z}


def diffusion(g: Given, steps: int) -> dict[str, Array]:
    u = g["u"].astype(np.float64)
    y = np.zeros((steps, len(u)))
    for t in range(steps):
        for b in range(len(u)):
            own = y[t - 1, b] if t else u[b]
            left = y[t - 1, b - 1] if t and b else 0.0
            right = y[t - 1, b + 1] if t and b + 1 < len(u) else u[b] + t
            y[t, b] = 0.5 * own + 0.25 * (left + right)
    return {"y": y}


def state_space(g: Given) -> dict[str, Array]:
    x, d, p, q = (g[n].astype(np.float64) for n in "xdpq")
    h = np.zeros((x.shape[0], x.shape[2], p.shape[2]))
    y = np.zeros(x.shape)
    for t in range(x.shape[1]):
        decay = np.exp(np.abs(d[:, t, :, None]) * g["a"].astype(np.float64))
        h = decay * h + (d[:, t] * x[:, t])[:, :, None] * p[:, t, None, :]
        y[:, t] = np.einsum("bin,bn->bi", h, q[:, t])
    return {"y": y}


def numpy_of(name: str, given: Given, steps: int = 0) -> dict[str, Array]:
    """What the op of that name gives; ``steps`` for an op that has no input of that length."""
    wide = {n: x.astype(np.float64) if x.dtype.kind == "f" else x for n, x in given.items()}
    cells = {"rnn": rnn, "lstm": lstm, "gru": gru}
    if name in CELLS:
        return cells[name.removesuffix("_reverse")](wide, reversed if "_" in name else list)
    if name == "diffusion":
        return diffusion(wide, steps)
    others = {"lengths": lengths, "layers": layers, "state_space": state_space,
              "running_logsumexp": running_logsumexp, "packed": packed}  # fmt: skip
    return others[name](wide)
