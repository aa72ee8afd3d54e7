"""How much each token counts: values of Plan.weigh."""
