"""The made-up language pair."""
