"""The nouns and protocols that every room shares; imports nothing of mnemos outside itself."""
