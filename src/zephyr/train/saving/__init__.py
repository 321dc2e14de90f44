"""Nothing lost: checkpoints here and in the store, and the end of a training that goes wrong."""
