"""Faults on purpose: a load that never gives up, what goes wrong meanwhile, and a proof that nothing was lost."""
