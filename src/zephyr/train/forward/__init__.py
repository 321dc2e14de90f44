"""Log-probabilities of rows without padding: attention, the LM head, pairs with a shared prompt."""
