"""External teachers: text in, text out, one module per kind."""
