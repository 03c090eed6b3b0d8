"""The training loop, its state, its inputs and its log."""
