"""Prefect flows: what runs, on what, and when it stops."""
