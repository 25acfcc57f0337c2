"""What every test file shares."""

from __future__ import annotations

import talaria_nb.quiet  # noqa: F401 - before any test: it imports coremltools without its warnings
import vision  # noqa: F401 - it finds timm
