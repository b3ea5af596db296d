"""numpy, imported when something of it is first used.

It takes a tenth of a second and some 20 MB, and a backup or restore of a cluster without increments uses nothing of it.
"""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("numpy"), name)
