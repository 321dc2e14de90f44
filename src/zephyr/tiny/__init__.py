"""The embedded world: checkable instructions, models that answer them, a base model to train."""
