"""numpy, imported when something of it is first used.

It takes a tenth of a second and some 20 MB, and a restore, or a backup of a cluster without increments, uses nothing of it.
"""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    found = globals()[name] = getattr(importlib.import_module("numpy"), name)  # asked once for each name
    return found
