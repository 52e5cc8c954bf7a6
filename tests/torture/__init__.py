"""Real processes, killed with SIGKILL at named points and at random times, and racing each other; then the archive on
disk is audited, without the product's own code.

    python -m tests.torture --kills 1000        # a night

- `victim` is `python -m flows.archive` with a point in its environment at which it kills itself.
- `siege` starts and kills victims until everything is settled, again and again.
- `racer` is a process that archives when it is told to, without Prefect.
- `auditor` says what is wrong with an archive; it knows `docs/archive-format.md` and what the simulator serves.
"""
