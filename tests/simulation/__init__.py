"""A deterministic simulation of everything that can go wrong at once.

The project's own listing, capture, sealing and committing run here, several processes of it interleaved step by step
in one thread, against a source that changes and lies while it is read and a store that fails before and after it did
what it was told. Processes are killed at any step and started again. After each step, `oracle` checks what the archive
promises. Everything follows from one number:

    python -m tests.simulation --seeds 2000          # seeds 0 to 1,999
    python -m tests.simulation --seed 1234           # one seed, step by step
"""
