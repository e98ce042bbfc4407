"""Training: state, optimizer, step, devices, loop, logs and interruption."""
