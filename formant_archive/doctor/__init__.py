"""What must be so before the first conversation is archived: each check is one line, and says what to do.

- `source`: FormantAI's API is there, takes the key, and tells the same time.
- `storage`: the archive's store takes, gives back and lists objects, creates each once whoever races for it, refuses
  damaged bodies, and does not let this key delete.
- `pipeline`: Prefect is there, with the deployments and a worker for them.

Nothing that exists is written over or deleted, and nothing here needs a right that the pipeline does not need: what
takes another right is asked in a way that changes nothing. What the checks store lies under `doctor/` and stays,
because whoever may archive may not delete.
"""

from formant_archive.doctor.check import Check, exit_code

__all__ = ["Check", "exit_code"]
