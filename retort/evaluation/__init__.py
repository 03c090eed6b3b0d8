"""Numbers about trained systems: quality, significance, diagnostics, multi-modality and exposure bias."""
