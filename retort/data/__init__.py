"""Tables, vocabulary, batches: what passes between stages."""
