"""The reproductions: published findings walked again, each a chain of study files that `mnemos reproduce` runs."""
