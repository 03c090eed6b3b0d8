"""The report: one self-contained HTML page, its figures, and tables of its numbers."""
