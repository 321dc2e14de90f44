"""The embedded world: instructions that a program can check, models that answer them, and a base model to train."""
