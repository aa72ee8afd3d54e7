"""Recipes: the patients, the built-in suites, and one readable study file per result."""
