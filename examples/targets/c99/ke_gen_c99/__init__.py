"""A ke-gen target in a package of its own: KE-IR to one C99 file (docs/writing-a-target.md)."""
