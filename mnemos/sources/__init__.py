"""Where text comes from: readers, chat rendering, mixing, batching, verifiers, worlds."""
