"""Recipes that make training text for students: gathering what teachers decoded, and the loop of EM."""
