"""Which leads an agent is shown, from a published snapshot and a scorer."""
