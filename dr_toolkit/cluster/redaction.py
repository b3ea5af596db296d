"""Showing values without their secrets. Pure.

A value is hidden when its name looks like a secret's, when it equals the value of a Secret, or when it lies in a Secret object of a manifest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Any

import yaml

from dr_toolkit.cluster import manifest, yaml_text

HIDDEN = "***"
_SECRET_NAMES = re.compile(
    r"pass(word|wd|phrase)?$|passw|secret|token|credential|licen[cs]e|api[_-]?key|access[_-]?key|private|jaas|"
    r"encryption[_-]?key|signing[_-]?key|salt$|keystore|dsn$|connection[_-]?string|\.(key|p12|pfx|jks)$|(^|[_-])key$|auth$|cookie",
    re.IGNORECASE,
)
_HARMLESS_NAMES = re.compile(
    r"(existing|image|pull)[_-]?secrets?|secret(name|ref|keyref|key|s?sha256sum)$|(key|token)ref$|name$|file$|path$|enabled?$|type$|mount|"
    r"ttl|expir|seconds|service.?account.?token",
    re.IGNORECASE,
)
_IN_URL = re.compile(
    r"(?<=://)([^/\s:@]*):([^/\s@]+)@|([?&;](?:password|passwd|secret|token)=)([^&;\s]+)", re.IGNORECASE
)
_IN_TEXT = re.compile(
    r"(\b(?:bearer|basic)\s+)(?=[a-z.~+/_-]*[\d=])([\w.~+/=-]{8,})|((?:^|\s)--?[\w.-]*(?:password|passwd|secret|token|api-?key)[= ])(\S+)|"
    r"(\b[\w.-]*(?:password|passwd|secret)\s*[=:]\s*)([\"']?[^\s\"';,]{4,}[\"']?)",
    re.IGNORECASE,
)
"""What is a secret by the words before it: a header, an option of a program, an assignment within a line."""
_WITHIN = 8
"""Values of Secrets that are at least so long are looked for within other texts as well, whole words alone."""
_SHORTEST = 4
"""Shorter values of Secrets are everywhere by accident."""


def looks_secret(name: str) -> bool:
    """Whether a name looks like that of a secret, rather than that of a reference to one."""
    return bool(_SECRET_NAMES.search(name)) and not _HARMLESS_NAMES.search(name)


class Redactor:
    """Hides secrets in documents.

    Args:
        values: values of Secrets.
        is_secret: whether a text is the value of a Secret, where only fingerprints are known.
    """

    def __init__(
        self, values: Collection[str] = (), is_secret: Callable[[str], bool] = lambda _text: False
    ) -> None:
        self._values = frozenset(value for value in values if len(value) >= _SHORTEST)
        known = sorted(
            (one for one in self._values if len(one) >= _WITHIN and "\n" not in one), key=len, reverse=True
        )
        forms = [
            form
            for one in known
            for form in (one, base64.b64encode(one.encode("utf-8", "surrogatepass")).decode())
        ]
        self._within = (
            re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, forms)) + r")(?!\w)") if forms else None
        )
        self._is_secret = is_secret
        self._tag_key = secrets.token_bytes(16)
        self.count = 0

    def hidden(self, value: object) -> str:
        """What stands for a secret: equal ones have equal tags within this run, so that a change is visible and nothing else."""
        self.count += 1
        tag = hmac.new(self._tag_key, str(value).encode(), hashlib.sha256).hexdigest()[:4]
        return f"{HIDDEN} ({tag})"

    def document(self, value: Any, name: str = "") -> Any:
        """The same document with its secrets hidden."""
        if isinstance(value, Mapping):
            if value.get("kind") == "Secret" and ("data" in value or "stringData" in value):
                return self._secret(value)
            pair = value.get("name")
            if isinstance(pair, str) and isinstance(
                value.get("value"), str | int | float
            ):  # an environment variable
                return {
                    **{k: self.document(v, str(k)) for k, v in value.items()},
                    "value": self.document(value["value"], pair),
                }
            return {key: self.document(item, str(key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.document(item, name) for item in value]
        return self._plain(value, name)

    def _plain(self, value: Any, name: str) -> Any:
        if value in (None, "") or isinstance(value, bool):
            return value
        text = str(value)
        if looks_secret(name) or text in self._values or (len(text) >= _SHORTEST and self._is_secret(text)):
            return self.hidden(value)
        if not isinstance(value, str):
            return value
        if "\n" in text:
            return self._block(text)
        return self.line(text)

    def line(self, text: str) -> str:
        """A text without the passwords of its URLs, what its own words say is a secret, and the values of Secrets in it."""
        if self._within is not None:
            text = self._within.sub(lambda m: self.hidden(m[0]), text)
        return _IN_TEXT.sub(self._after_words, self.urls(text))

    def urls(self, text: str) -> str:
        """A text with the passwords of its URLs hidden, and nothing else changed."""
        return _IN_URL.sub(
            lambda m: f"{m[1]}:{self.hidden(m[2])}@" if m[2] else f"{m[3]}{self.hidden(m[4])}", text
        )

    def _after_words(self, found: re.Match[str]) -> str:
        """Hide what follows such words, unless it is hidden already or names a variable."""
        before, value = next((found[n], found[n + 1]) for n in (1, 3, 5) if found[n])
        plain = value.strip("\"'")
        named = found[5] is None or looks_secret(found[5].rstrip(" \t:="))
        if not named or not plain or plain.startswith((HIDDEN, "$", "{{", "%")):
            return str(found[0])
        return f"{before}{value.replace(plain, self.hidden(plain))}"

    def _block(self, text: str) -> str:
        """A file within a value (a ConfigMap's): YAML where it is YAML, else line by line."""
        try:
            found = yaml_text.load(text)
        except yaml.YAMLError:
            found = None
        if isinstance(found, dict | list):
            before = self.count
            hidden = self.document(found)
            return (
                str(yaml.safe_dump(hidden, sort_keys=False, allow_unicode=True))
                if self.count > before
                else text
            )
        return "\n".join(self._assignment(line) for line in text.split("\n"))

    def _assignment(self, line: str) -> str:
        name, mark, value = line.partition("=") if "=" in line else line.partition(":")
        if (
            mark
            and value.strip()
            and (looks_secret(name.strip().split(" ")[-1]) or value.strip() in self._values)
        ):
            return f"{name}{mark}{self.hidden(value.strip())}"
        return self.line(line)

    def _secret(self, value: Mapping[str, Any]) -> dict[str, Any]:
        shown = {
            key: self.document(item, str(key))
            for key, item in value.items()
            if key not in {"data", "stringData"}
        }
        for part in ("data", "stringData"):
            if isinstance(value.get(part), Mapping):
                shown[part] = {key: self.hidden(item) for key, item in value[part].items()}
        return shown

    def manifest(self, text: str) -> str:
        """A manifest with its secrets hidden; its comments and form are lost."""
        shown = [self.document(one) for one in manifest.objects(text)]
        return (
            str(yaml.safe_dump_all(shown, sort_keys=False, allow_unicode=True, explicit_start=True))
            if shown
            else ""
        )


def values_of_secrets(text: str) -> set[str]:
    """The values of the Secret objects in a manifest."""
    found: set[str] = set()
    if "Secret" not in text:
        return found
    for one in manifest.objects(text):
        if one.get("kind") != "Secret":
            continue
        plain = one.get("stringData")
        found |= {str(value) for value in plain.values()} if isinstance(plain, Mapping) else set()
        data = one.get("data")
        for value in data.values() if isinstance(data, Mapping) else ():
            try:
                found.add(base64.b64decode(str(value), validate=True).decode())
            except (binascii.Error, ValueError):
                continue
    return found
