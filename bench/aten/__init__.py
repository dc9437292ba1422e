"""How much of ATen is imported: PyTorch's own samples of its operators (OpInfo), op by op.

``python -m bench.aten`` exports each sample, imports it, and compares the op's meaning in float64
with what PyTorch computes in float64; ``--targets`` runs some of them on targets too.
"""
