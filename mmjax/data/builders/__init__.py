"""TFDS builders, one data set a file: a package's folder → records on disk.

Importing a builder imports tensorflow-datasets (never TensorFlow); the data
sets in `mmjax.data` do so only when they prepare or read.
"""
