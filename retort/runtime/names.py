"""Names that an exported bundle and the runtime share: files, inputs and outputs of graphs."""

from __future__ import annotations

BUNDLE, CARD = "bundle.json", "README.md"
MODEL, ENCODER, DECODER = "model.onnx", "encoder.onnx", "decoder.onnx"
SHORTLIST = "shortlist.npy"
NGRAMS = "ngrams.table"

SOURCE, LENGTHS, SLOTS, TOKENS, MEMORY = "source", "lengths", "slots", "tokens", "memory"
CANDIDATES = "candidates"
LOGITS, NORMALISER, END, TRANSITIONS = "logits", "normaliser", "end", "transitions"
