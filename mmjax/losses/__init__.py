"""Losses: outputs and batch in, one number for each example out."""
