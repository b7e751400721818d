"""What all tests share."""

from hypothesis import settings

# A shared machine may stand still for longer than hypothesis would wait.
settings.register_profile("nuclr", deadline=None)
settings.load_profile("nuclr")
