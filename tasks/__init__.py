"""Prefect tasks: one call of the core each, with its retries, names and tags.

Tasks take and return references, receipts and counts. No payload, no phone number and no secret crosses their boundary.
"""
