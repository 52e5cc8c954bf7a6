"""For all tests."""

import os

from hypothesis import settings

# No test depends on how fast this machine is. Where CI judges a change, its tests are the same each time.
settings.register_profile("formant-archive", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("formant-archive")
