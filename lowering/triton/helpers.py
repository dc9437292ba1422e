"""Functions that generated kernels call. Each is written into a file only when it is used."""

from __future__ import annotations

from collections.abc import Iterable

_TEXTS: dict[str, str] = {}
_NEEDS: dict[str, tuple[str, ...]] = {}


def _add(name: str, text: str, *needs: str) -> None:
    _TEXTS[name] = "@triton.jit\n" + text.strip("\n")
    _NEEDS[name] = needs


def is_helper(name: str) -> bool:
    return name in _TEXTS


def texts_of(names: Iterable[str]) -> list[str]:
    """Texts of these helpers and of what they need, each once, in an order that defines first."""
    out: dict[str, str] = {}

    def visit(name: str) -> None:
        for n in _NEEDS[name]:
            visit(n)
        out.setdefault(name, _TEXTS[name])

    for n in names:
        visit(n)
    return list(out.values())


# -- integers ----------------------------------------------------------------------------------
_add(
    "floor_modulo",
    '''
def floor_modulo(a, b):
    """Remainder with the divisor's sign, as in Python (Triton's has the dividend's)."""
    r = a % b
    return tl.where((r != 0) & ((r < 0) != (b < 0)), r + b, r)
''',
)
_add(
    "floor_divide",
    '''
def floor_divide(a, b):
    """Quotient rounded toward minus infinity, as in Python (Triton's is rounded toward zero)."""
    q = a // b
    return tl.where((a % b != 0) & ((a < 0) != (b < 0)), q - 1, q)
''',
)

# -- combining functions -----------------------------------------------------------------------
_add("multiply", "def multiply(a, b):\n    return a * b\n")
_add("larger", "def larger(a, b):\n    return tl.maximum(a, b)\n")
_add("smaller", "def smaller(a, b):\n    return tl.minimum(a, b)\n")

# -- elementary functions ----------------------------------------------------------------------
_add(
    "truncate",
    """
def truncate(x):
    return tl.where(x < 0, tl.ceil(x), tl.floor(x))
""",
)
_add(
    "round_half_even",
    """
def round_half_even(x):
    low = tl.floor(x)
    rest = x - low
    odd = low - 2 * tl.floor(low * 0.5) == 1
    return tl.where((rest > 0.5) | ((rest == 0.5) & odd), low + 1, low)
""",
)
_add(
    "exponential",
    '''
def exponential(x):
    """Within 3 units in the last place of float32, however large x is: whole powers of 2 apart.

    The product of x and log2(e), rounded, would be off by more the larger it is. What is beyond
    the ends gives infinity or 0; n has 8 bits and the upper part of ln(2) 16, so that n times that
    is exact, and fusing it with the subtraction or not is the same.
    """
    x = tl.minimum(x, 89.0, propagate_nan=tl.PropagateNan.ALL)
    x = tl.maximum(x, -104.0, propagate_nan=tl.PropagateNan.ALL)
    n = tl.maximum(tl.floor(x * 1.4426950408889634), -126.0)  # smaller powers become 0
    rest = x - n * 0.693145751953125 - n * 1.428606765330187e-06
    return tl.exp2(rest * 1.4426950408889634) * tl.exp2(n)
''',
)
_add(
    "logistic",
    """
def logistic(x):
    return 1 / (1 + exponential(-x))
""",
    "exponential",
)
_add(
    "tan",
    """
def tan(x):
    return tl.sin(x) / tl.cos(x)
""",
)
_add(
    "tanh",
    '''
def tanh(x):
    """Within 2 units in the last place of float32: a polynomial near 0 (Cephes), exp elsewhere."""
    z = x * x
    p = -5.70498872745e-3 * z + 2.06390887954e-2
    p = p * z - 5.37397155531e-2
    p = p * z + 1.33314422036e-1
    p = p * z - 3.33332819422e-1
    far = 1 - 2 / (tl.exp(2 * tl.abs(x)) + 1)
    return tl.where(tl.abs(x) < 0.625, x + x * z * p, tl.where(x < 0, -far, far))
''',
)
_add(
    "tanh_f64",
    '''
def tanh_f64(x):
    """A rational function near 0 (Cephes), exp elsewhere."""
    z = x * x
    p = (-9.64399179425052238628e-1 * z - 9.92877231001918586564e1) * z - 1.61468768441708447952e3
    q = ((z + 1.12811678491632931402e2) * z + 2.23548839060100448583e3) * z
    q = q + 4.84406305325125486048e3
    far = 1 - 2 / (tl.exp(2 * tl.abs(x)) + 1)
    return tl.where(tl.abs(x) < 0.625, x + x * z * (p / q), tl.where(x < 0, -far, far))
''',
)
_add(
    "power",
    '''
def power(x, y):
    """x to the power y; a negative x needs a whole y."""
    size = tl.exp2(y * tl.log2(tl.abs(x)))
    whole = tl.floor(y) == y
    odd = tl.floor(y * 0.5) * 2 != y
    signed = tl.where(whole, tl.where(odd, -size, size), float("nan"))
    return tl.where(y == 0, 1.0, tl.where(x < 0, signed, size))
''',
)
_add(
    "power_f64",
    """
def power_f64(x, y):
    return power(x, y)
""",
    "power",
)
_add(
    "power_f32",
    '''
def power_f32(x, y):
    """Computed in float64: in float32 the error of the logarithm grows with the exponent."""
    x, y = x + 0 * y, y + 0 * x
    return power(x.to(tl.float64), y.to(tl.float64)).to(tl.float32)
''',
    "power",
)

# -- rounding to narrow formats, on values held in float32 -------------------------------------
_add(
    "round_bf16",
    '''
def round_bf16(x):
    """The nearest bfloat16 value, ties to even."""
    bits = x.to(tl.uint32, bitcast=True)
    near = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return tl.where(x == x, near.to(tl.float32, bitcast=True), x)
''',
)
_add(
    "round_tf32",
    '''
def round_tf32(x):
    """The nearest value with 10 bits after the point, ties away from zero."""
    bits = x.to(tl.uint32, bitcast=True)
    near = ((bits + 0x1000) & 0xFFFFE000).to(tl.float32, bitcast=True)
    return tl.where(tl.abs(x) < float("inf"), near, x)
''',
)
_add(
    "round_tf32_even",
    '''
def round_tf32_even(x):
    """The nearest value with 10 bits after the point, ties to even."""
    bits = x.to(tl.uint32, bitcast=True)
    near = (bits + 0xFFF + ((bits >> 13) & 1)) & 0xFFFFE000
    return tl.where(tl.abs(x) < float("inf"), near.to(tl.float32, bitcast=True), x)
''',
)
_add(
    "round_f8e4m3",
    '''
def round_f8e4m3(x):
    """The nearest OCP E4M3 value, ties to even; NaN beyond the largest, 448."""
    bits = x.to(tl.uint32, bitcast=True)
    near = (bits + 0x7FFFF + ((bits >> 20) & 1)) & 0xFFF00000
    near = near.to(tl.float32, bitcast=True)
    small = (x + tl.where(x < 0, -24576.0, 24576.0)) - tl.where(x < 0, -24576.0, 24576.0)
    near = tl.where(tl.abs(x) < 0.015625, small, near)  # below 2**-6, steps of 2**-9
    return tl.where(tl.abs(x) <= 464.0, near, float("nan"))
''',
)
_add(
    "round_f8e5m2",
    '''
def round_f8e5m2(x):
    """The nearest E5M2 value, ties to even; infinite beyond the largest, 57344."""
    bits = x.to(tl.uint32, bitcast=True)
    near = (bits + 0xFFFFF + ((bits >> 21) & 1)) & 0xFFE00000
    near = near.to(tl.float32, bitcast=True)
    small = (x + tl.where(x < 0, -192.0, 192.0)) - tl.where(x < 0, -192.0, 192.0)
    near = tl.where(tl.abs(x) < 6.103515625e-05, small, near)  # below 2**-14, steps of 2**-16
    near = tl.where(tl.abs(x) < 61440.0, near, tl.where(x < 0, float("-inf"), float("inf")))
    return tl.where(x == x, near, x)
''',
)
_add(
    "to_f8e4m3",
    '''
def to_f8e4m3(x):
    """Rounded first: the hardware's own conversion saturates where the format has NaN."""
    return round_f8e4m3(x).to(tl.float8e4nv)
''',
    "round_f8e4m3",
)
_add(
    "to_f8e5m2",
    '''
def to_f8e5m2(x):
    """Rounded first; an infinity is set by its bits, since the hardware's conversion saturates."""
    near = round_f8e5m2(x)
    bits = near.to(tl.float8e5).to(tl.uint8, bitcast=True)
    bits = tl.where(near == float("inf"), 0x7C, tl.where(near == float("-inf"), 0xFC, bits))
    return bits.to(tl.uint8).to(tl.float8e5, bitcast=True)
''',
    "round_f8e5m2",
)
_add(
    "decode_f8e4m3",
    '''
def decode_f8e4m3(byte):
    """The float32 value of an OCP E4M3 byte: its exponent and fraction, moved into a float16."""
    bits = byte.to(tl.uint16)
    half = ((bits & 0x80) << 8) | ((bits & 0x7F) << 7)
    value = half.to(tl.float16, bitcast=True).to(tl.float32) * 256.0
    return tl.where((bits & 0x7F) == 0x7F, float("nan"), value)
''',
)
_add(
    "decode_f8e5m2",
    '''
def decode_f8e5m2(byte):
    """The float32 value of an E5M2 byte: the upper half of a float16."""
    return (byte.to(tl.uint16) << 8).to(tl.float16, bitcast=True).to(tl.float32)
''',
)
_add(
    "encode_f8e4m3",
    '''
def encode_f8e4m3(x):
    """The byte of a value that E4M3 holds exactly."""
    half = (x * 0.00390625).to(tl.float16).to(tl.uint16, bitcast=True)
    byte = ((half >> 8) & 0x80) | ((half >> 7) & 0x7F)
    return tl.where(x == x, byte, 0x7F).to(tl.uint8)
''',
)
_add(
    "encode_f8e5m2",
    '''
def encode_f8e5m2(x):
    """The byte of a value that E5M2 holds exactly: the upper half of a float16."""
    return (x.to(tl.float16).to(tl.uint16, bitcast=True) >> 8).to(tl.uint8)
''',
)

# -- products in parts -------------------------------------------------------------------------
_ROUNDED_DOT = """
def dot_{name}(a, b, acc):
    return acc + tl.dot(round_{name}(a), round_{name}(b), input_precision="ieee")
"""
for _name in ("tf32", "tf32_even"):
    _add(f"dot_{_name}", _ROUNDED_DOT.format(name=_name), f"round_{_name}")
_SPLIT_DOT = '''
def dot_{name}x3(a, b, acc):
    """A float32 product from three products of {name} parts, smallest first."""
    a_high, b_high = round_{name}(a), round_{name}(b)
    a_low, b_low = round_{name}(a - a_high), round_{name}(b - b_high)
    out = tl.dot(a_low, b_high, input_precision="ieee")
    out = tl.dot(a_high, b_low, out, input_precision="ieee")
    return acc + tl.dot(a_high, b_high, out, input_precision="ieee")
'''
for _name in ("tf32", "bf16"):
    _add(f"dot_{_name}x3", _SPLIT_DOT.format(name=_name), f"round_{_name}")
_add(
    "dot_bf16x6",
    '''
def dot_bf16x6(a, b, acc):
    """A float32 product from six products of bf16 parts, smallest first."""
    a0, b0 = round_bf16(a), round_bf16(b)
    a1, b1 = round_bf16(a - a0), round_bf16(b - b0)
    a2, b2 = round_bf16(a - a0 - a1), round_bf16(b - b0 - b1)
    out = tl.dot(a2, b0, input_precision="ieee")
    out = tl.dot(a0, b2, out, input_precision="ieee")
    out = tl.dot(a1, b1, out, input_precision="ieee")
    out = tl.dot(a1, b0, out, input_precision="ieee")
    out = tl.dot(a0, b1, out, input_precision="ieee")
    return acc + tl.dot(a0, b0, out, input_precision="ieee")
''',
    "round_bf16",
)
_add(
    "dot_u8",
    '''
def dot_u8(a, b, acc):
    """Unsigned bytes through the signed matrix unit: (a - 128)(b - 128) and what that lacks."""
    wide_a, wide_b = a.to(tl.int32), b.to(tl.int32)
    signed = tl.dot((wide_a - 128).to(tl.int8), (wide_b - 128).to(tl.int8), out_dtype=tl.int32)
    rows = tl.expand_dims(tl.sum(wide_a, axis=-1), -1)
    columns = tl.expand_dims(tl.sum(wide_b, axis=-2), -2)
    return acc + signed + 128 * (rows + columns) - 16384 * a.shape[-1]
''',
)
