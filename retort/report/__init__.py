"""The report: one self-contained HTML page, its figures and a table of every number."""
