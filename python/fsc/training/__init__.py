"""Training with labels, fine-tuning, accuracy."""
