"""Modality-free blocks: pure functions, and linen modules over them."""
