"""Laws of loss over size, tokens, repetition and steps, fitted to few runs by one core (`fitting`)."""
