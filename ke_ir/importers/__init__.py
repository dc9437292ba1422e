"""From other people's programs to an ``op``: PyTorch through ``torch.export``.

``source`` loads a user's file, ``torch_export`` exports a module and walks its graph, ``aten``
holds one small function for each operator. torch is imported inside functions only.
"""
