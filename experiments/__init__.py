"""Experiments: scripts with flags, and the configurations they run."""
