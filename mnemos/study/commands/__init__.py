"""One module for each command that works on studies, models or runs."""
