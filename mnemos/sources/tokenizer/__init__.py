"""Tokenizers: trained by published rules, measured by language, read from and written for SentencePiece, extended."""
