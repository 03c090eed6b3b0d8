"""Models: building blocks that all families share, and one module per family.

kernels: fast primitives. layers, embeddings, base: building blocks. build: a model from its configuration. checkpoint:
weights on disk. autoregressive, parallel, dag, janus, bang, recurrent: one family each.
"""
