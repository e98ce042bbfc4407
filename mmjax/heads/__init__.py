"""Heads: fused `Tokens` in, a mapping of outputs out."""
