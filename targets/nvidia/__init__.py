"""The NVIDIA target."""
