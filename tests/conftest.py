"""What every test file shares."""

from __future__ import annotations

from hypothesis import settings

import talaria_nb.quiet  # noqa: F401 - before any test: it imports coremltools without its warnings
import vision  # noqa: F401 - it finds timm

# A slow machine is no wrong result.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
