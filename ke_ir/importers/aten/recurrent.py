"""LSTM, GRU and plain RNN layers, as recurrences over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ke_ir.expr import Bin, Call, Expr, Num, Ref
from ke_ir.importers.aten.views import cat, stacked
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Node, Unsupported, aten
from ke_ir.index_maps import add, mul, number


@dataclass(frozen=True)
class Layer:
    """One direction of one layer: x [T, B, K] with its weights; ``step`` is -1 or 1.

    Gates stand one after the other in the first dim of the weights, ``hidden`` rows each.
    """

    node: Node
    name: str
    x: Value
    weights: Sequence[Value]
    hidden: Expr
    step: int

    @property
    def shape(self) -> tuple[Expr, Expr, Expr]:
        """Of the layer's output: [T, B, H]."""
        return self.x.shape[0], self.x.shape[1], self.hidden

    def from_input(self) -> Value:
        """[T, B, gates * H]: what the inputs give, computed for all steps at once."""
        w, bias = self.weights[0], self.weights[2:3]

        def at(index: Index) -> Expr:
            t, b, g = index
            total = self.node.reduce("sum", [w.shape[1]], lambda k: Bin(
                "*", self.x[[t, b, k[0]]], w[[g, k[0]]]))  # fmt: skip
            return Bin("+", total, bias[0][[g]]) if bias else total

        shape = (*self.shape[:2], w.shape[0])
        return self.node.builder.define(f"{self.name}_in", shape, self.x.dtype, at)

    def from_state(self, state: str, start: Value, more: Value | None) -> Value:
        """[T, B, gates * H]: what the state before gives, plus ``more``."""
        w, bias = self.weights[1], self.weights[3:4]

        def at(index: Index) -> Expr:
            t, b, g = index
            e = self.node.reduce("sum", [w.shape[1]], lambda k: Bin(
                "*", self.before(state, start, [t, b, k[0]]), w[[g, k[0]]]))  # fmt: skip
            if bias:
                e = Bin("+", e, bias[0][[g]])
            return e if more is None else Bin("+", more[[t, b, g]], e)

        shape = (*self.shape[:2], w.shape[0])
        return self.node.builder.define(f"{self.name}_gates", shape, self.x.dtype, at)

    def before(self, state: str, start: Value, index: Index) -> Expr:
        """The state of the step before: ``state[t - 1, b, j else start[b, j]]``."""
        t, b, j = index
        return Ref(state, (add(t, Num(self.step)), b, j), start[[b, j]])

    def gate(self, gates: Value, n: int, index: Index) -> Expr:
        t, b, j = index
        return gates[[t, b, add(j, mul(Num(n), self.hidden))]]

    def define(self, name: str, body: Callable[[Index], Expr]) -> Value:
        return self.node.builder.define(name, self.shape, self.x.dtype, body, reserved=True)


Cell = Callable[[Layer, list[Value]], list[Value]]
"""From the start states [B, H] to the states [T, B, H], the output first."""


def lstm_cell(layer: Layer, start: list[Value]) -> list[Value]:
    h, c = (layer.node.builder.name(f"{layer.name}_{s}") for s in "hc")
    gates = layer.from_state(h, start[0], layer.from_input())

    def cell(i: Index) -> Expr:
        kept = Bin("*", _sigmoid(layer.gate(gates, 1, i)), layer.before(c, start[1], i))
        new = Bin("*", _sigmoid(layer.gate(gates, 0, i)), _tanh(layer.gate(gates, 2, i)))
        return Bin("+", kept, new)

    state = layer.define(c, cell)
    out = layer.define(h, lambda i: Bin("*", _sigmoid(layer.gate(gates, 3, i)), _tanh(state[i])))
    return [out, state]


def gru_cell(layer: Layer, start: list[Value]) -> list[Value]:
    h = layer.node.builder.name(f"{layer.name}_h")
    ins = layer.from_input()
    own = layer.from_state(h, start[0], None)

    def hidden(i: Index) -> Expr:
        def both(n: int) -> Expr:
            return _sigmoid(Bin("+", layer.gate(ins, n, i), layer.gate(own, n, i)))

        new = _tanh(Bin("+", layer.gate(ins, 2, i), Bin("*", both(0), layer.gate(own, 2, i))))
        old = layer.before(h, start[0], i)
        return Bin("+", Bin("*", Bin("-", Num(1.0), both(1)), new), Bin("*", both(1), old))

    return [layer.define(h, hidden)]


def plain_cell(activation: Callable[[Expr], Expr]) -> Cell:
    def cell(layer: Layer, start: list[Value]) -> list[Value]:
        h = layer.node.builder.name(f"{layer.name}_h")
        ins = layer.from_input()
        w, bias = layer.weights[1], layer.weights[3:4]

        def hidden(i: Index) -> Expr:
            t, b, j = i
            e = Bin("+", ins[i], layer.node.reduce("sum", [w.shape[1]], lambda k: Bin(
                "*", layer.before(h, start[0], [t, b, k[0]]), w[[j, k[0]]])))  # fmt: skip
            return activation(Bin("+", e, bias[0][[j]]) if bias else e)

        return [layer.define(h, hidden)]

    return cell


def _sigmoid(e: Expr) -> Expr:
    return Call("sigmoid", (e,))


def _tanh(e: Expr) -> Expr:
    return Call("tanh", (e,))


def layers(
    node: Node, x: Value, states: Sequence[Value], weights: Sequence[Value], count: int,
    dropout: float, train: bool, both_ways: bool, batch_first: bool, cell: Cell,
) -> list[Value]:  # fmt: skip
    """The output of the last layer, and the last states of all: as the operators give them."""
    if dropout and train and count > 1:
        raise Unsupported("dropout between layers in training mode draws random numbers")
    ways = 2 if both_ways else 1
    per = len(weights) // (count * ways)
    x = _swapped(x) if batch_first else x
    lasts: list[list[Value]] = [[] for _ in states]
    for n in range(count):
        outs: list[Value] = []
        for way in range(ways):
            k = n * ways + way
            own = weights[k * per : (k + 1) * per]
            name = f"{node.name}_l{n}" + ("_back" if way else "")
            hidden = own[1].shape[1]
            start = [_part(s, k) for s in states]
            found = cell(Layer(node, name, x, own, hidden, 1 if way else -1), start)
            outs.append(found[0])
            end = Num(0) if way else add(x.shape[0], Num(-1))
            for kept, state in zip(lasts, found, strict=True):
                kept.append(_at(state, end))
        x = outs[0] if ways == 1 else _side_by_side(node, f"{node.name}_l{n}_both", outs)
    out = _swapped(x) if batch_first else x
    # By the shapes of the first states: torch 2.11 says of the last ones of `lstm` that they have a
    # dimension more.
    given = replace(node, results=(node.results[0], *((s.shape, s.dtype) for s in states)))
    ends = [stacked(given, kept, 0, k, f"_last{k}") for k, kept in enumerate(lasts, 1)]
    return [out.view(node.results[0][0], lambda i: i), *ends]


def _swapped(x: Value) -> Value:
    """Batch and time in the other order."""
    a, b, c = x.shape
    return x.view((b, a, c), lambda i: [i[1], i[0], i[2]])


def _part(x: Value, n: int) -> Value:
    return x.view(x.shape[1:], lambda i: [Num(n), *i])


def _at(x: Value, t: Expr) -> Value:
    return x.view(x.shape[1:], lambda i: [t, *i])


def _side_by_side(node: Node, name: str, parts: Sequence[Value]) -> Value:
    """[T, B, 2 * H] of both directions."""
    steps, batch, hidden = parts[0].shape
    shape = (steps, batch, mul(hidden, Num(len(parts))))
    return cat(Node(name, node.builder, ((shape, parts[0].dtype),)), parts, 2)


@aten("lstm.input")
def lstm(
    node: Node, x: Value, states: Sequence[Value], weights: Sequence[Value], _: bool,
    count: int, dropout: float, train: bool, both: bool, batch_first: bool,
) -> list[Value]:  # fmt: skip
    if number(states[0].shape[-1]) != number(states[1].shape[-1]):
        raise Unsupported("a projection of the hidden state")
    return layers(node, x, states, weights, count, dropout, train, both, batch_first, lstm_cell)


@aten("gru.input")
def gru(
    node: Node, x: Value, state: Value, weights: Sequence[Value], _: bool, count: int,
    dropout: float, train: bool, both: bool, batch_first: bool,
) -> list[Value]:  # fmt: skip
    return layers(node, x, [state], weights, count, dropout, train, both, batch_first, gru_cell)


@aten("rnn_tanh.input")
def rnn_tanh(
    node: Node, x: Value, state: Value, weights: Sequence[Value], _: bool, count: int,
    dropout: float, train: bool, both: bool, batch_first: bool,
) -> list[Value]:  # fmt: skip
    return layers(node, x, [state], weights, count, dropout, train, both, batch_first,
                  plain_cell(_tanh))  # fmt: skip


@aten("rnn_relu.input")
def rnn_relu(
    node: Node, x: Value, state: Value, weights: Sequence[Value], _: bool, count: int,
    dropout: float, train: bool, both: bool, batch_first: bool,
) -> list[Value]:  # fmt: skip
    return layers(node, x, [state], weights, count, dropout, train, both, batch_first,
                  plain_cell(lambda e: Call("max", (e, Num(0)))))  # fmt: skip
