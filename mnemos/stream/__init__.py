"""A life after training: answer, score, learn, one task after the other; memories, agents, and what they gain."""
