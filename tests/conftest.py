"""For all tests."""

from hypothesis import settings

# No test depends on how fast this machine is.
settings.register_profile("formant-archive", deadline=None)
settings.load_profile("formant-archive")
