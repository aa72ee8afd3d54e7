"""Studies of recognisers that adapt while they listen: arms are methods, orders are sequences of domains."""
