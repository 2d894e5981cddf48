"""Training: synthetic tasks and the pre-training of the bundled network."""
