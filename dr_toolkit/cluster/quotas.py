"""Quantities of Kubernetes, and whether a ResourceQuota leaves room. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_QUANTITY = re.compile(r"([+-]?[0-9.]+)(?:[eE]([+-]?[0-9]+)|(m|u|n|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_SHORT = {
    "cpu": "requests.cpu",
    "memory": "requests.memory",
    "count/pods": "pods",
    "count/secrets": "secrets",
}
"""Other names of the same limits."""
_MUST_BE_SET = ("limits.cpu",)
"""Of processor and memory a container must say what a quota counts; ours say all but this. What else it does not say counts as nothing."""
_FOR_A_POD = (
    "pods",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
    "count/jobs.batch",
)
"""What a Job's Pod takes of a quota."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """One limit that does not suffice.

    Attributes:
        name: as the quota writes it.
        hard: the limit.
        needed: what would be taken; empty where containers do not say what they take.
    """

    name: str
    hard: str
    needed: str

    def __str__(self) -> str:
        return (
            f"{self.name} {self.hard}, and {self.needed} is needed"
            if self.needed
            else f"{self.name}, which its containers do not say"
        )


def amount(text: object) -> Decimal | None:
    """A quantity as a number; None where it is none."""
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None:
        return None
    number, exponent, suffix = match.groups()
    try:
        value = Decimal(number)
    except ArithmeticError:
        return None
    if suffix in _BINARY:
        return value * (1 << _BINARY[suffix])
    return value.scaleb(int(exponent) if exponent else _DECIMAL.get(suffix or "", 0))


def short(hard: Mapping[str, Any], needed: Mapping[str, str]) -> list[Shortage]:
    """The limits of a quota that a demand does not fit in.

    Args:
        hard: ``spec.hard`` of the quota.
        needed: what is taken, by the long names (``requests.memory``).
    """
    found = []
    for name, limit in hard.items():
        if name in _MUST_BE_SET and name not in needed:
            found.append(Shortage(name, str(limit), ""))
            continue
        wanted, most = amount(needed.get(_SHORT.get(name, name), "0")), amount(limit)
        if wanted is not None and most is not None and wanted > most:
            found.append(Shortage(name, str(limit), str(needed[_SHORT.get(name, name)])))
    return found


def used_up(quota: Mapping[str, Any]) -> Iterator[str]:
    """The limits of a live quota that let no further Pod in: ``pods 10 of 10``.

    Args:
        quota: the ResourceQuota as the API gives it.
    """
    status = quota.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    for name, limit in hard.items():
        if _SHORT.get(name, name) not in _FOR_A_POD:
            continue
        taken, most = amount(used.get(name, "0")), amount(limit)
        if taken is not None and most is not None and taken >= most:
            yield f"{name} {used.get(name, '0')} of {limit}"
