"""Makes a Prefect server ready for `prefect.yaml`: work pool, queues, the API key, the automations that watch.

    python -m tools.bootstrap

It creates what is missing and corrects what it made itself; a second time it changes nothing. It runs from the
checkout, as everything does that is about deploying: see ADR 14.
"""
