"""Models: what composes encoders, a fusion and a head."""
