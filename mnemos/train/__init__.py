"""Training one stage: from a plan to a model directory."""
