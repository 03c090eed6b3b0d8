"""Numbers about trained systems: quality, significance, diagnostics and latency."""
