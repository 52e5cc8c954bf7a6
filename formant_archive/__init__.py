"""Every completed FormantAI Voice conversation, once, unaltered and provably complete, in the user's own bucket.

The parts, in reading order:

    errors, records, keys, policy     the words: what can go wrong, what is written, where, and what the user decided
    manifest, listing, settlement     the rules, pure: the chained commits, the list's traps, when a call is settled
    stores, client                    the outside: the bucket or directory, and FormantAI's API
    wav, capture, register, ledger    the work: one payload, one record, one manifest
    run                               a run as plain steps; `flows/archive.py` does them with Prefect
    summary, settings, cli            what a user types and sees
    simulator                         a FormantAI Voice API that runs on this machine
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("formant-archive")
except PackageNotFoundError:  # a bare checkout, not installed
    __version__ = "0+unknown"
