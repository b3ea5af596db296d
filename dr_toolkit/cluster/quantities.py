"""Sums of amounts as Kubernetes writes them. Pure."""

from __future__ import annotations

import re

from dr_toolkit.cluster import quotas

_SIMPLE = re.compile(r"([0-9.]+)([A-Za-z]{0,2})")


def number(quantity: str) -> float:
    """``1.5Gi`` as a number; 0 for what is none."""
    return float(quotas.amount(quantity) or 0)


def total(*quantities: str) -> str:
    """The sum of amounts: in their own unit where they have the same, else in thousandths where it is no whole number."""
    parts = [_SIMPLE.fullmatch(one) for one in quantities]
    units = {part[2] if part else None for part in parts}
    if len(units) == 1 and None not in units:
        return f"{sum(float(part[1]) for part in parts if part):g}{units.pop()}"
    found = sum(number(one) for one in quantities)
    return str(int(found)) if found == int(found) else f"{int(found * 1000)}m"


def largest(*quantities: str) -> str:
    """The largest of them, as it was written."""
    return max(quantities, key=number)
