"""Amounts as Kubernetes writes them. Pure."""

from __future__ import annotations

_UNITS = {
    "": 1.0,
    "m": 0.001,
    "k": 10.0**3,
    "M": 10.0**6,
    "G": 10.0**9,
    "T": 10.0**12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}


def number(quantity: str) -> float:
    """``1.5Gi`` as a number."""
    digits, unit = _parts(quantity)
    return digits * _UNITS[unit]


def total(*quantities: str) -> str:
    """The sum of amounts: in their own unit where they have the same, else in thousandths where it is no whole number."""
    units = {_parts(one)[1] for one in quantities}
    if len(units) == 1:
        return f"{sum(_parts(one)[0] for one in quantities):g}{units.pop()}"
    found = sum(number(one) for one in quantities)
    return str(int(found)) if found == int(found) else f"{int(found * 1000)}m"


def largest(*quantities: str) -> str:
    """The largest of them, as it was written."""
    return max(quantities, key=number)


def _parts(quantity: str) -> tuple[float, str]:
    digits = quantity.rstrip("mkMGTi")
    return float(digits), quantity[len(digits) :]
