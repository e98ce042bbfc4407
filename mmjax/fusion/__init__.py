"""Fusions: tokens of all modalities in, one `Tokens` out; one idea a file."""
