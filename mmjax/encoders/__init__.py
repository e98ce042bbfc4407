"""Encoders: a raw modality in, `Tokens` out. One file for each modality."""
