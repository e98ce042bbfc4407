"""Data: packages are located, prepared once, and read as batches of numpy.

Nothing here imports JAX on its own account: a batch is a dict of numpy arrays.
"""
