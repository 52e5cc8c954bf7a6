"""Programs for whoever has the checkout: not installed, not imported by anything else."""
