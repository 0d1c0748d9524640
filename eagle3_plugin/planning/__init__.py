"""Pure decisions: what a round costs on a GPU, how much a draft gains, and so which settings."""
