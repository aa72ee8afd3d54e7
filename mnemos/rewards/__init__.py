"""What an answer is worth: verifiers, the sandbox, refusals, reward models, judges."""
