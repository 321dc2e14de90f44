"""Zephyr: a raw language model, a teacher and prompts in; an aligned chat model behind an endpoint out."""

__version__ = "0.1.0"
