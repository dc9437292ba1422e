"""What the NVIDIA and AMD targets share: the toolchain around one generated Triton file."""
