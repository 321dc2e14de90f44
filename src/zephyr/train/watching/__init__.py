"""What a training shows of itself, and which of its weights become the model."""
