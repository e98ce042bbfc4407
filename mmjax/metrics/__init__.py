"""Metrics: sums over a batch on the device, scores of the sums on the host."""
