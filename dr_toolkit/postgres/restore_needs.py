"""What an archive needs from the server that it is restored into: roles, extensions, a version. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from dr_toolkit.errors import Damaged, TargetError
from dr_toolkit.postgres.archive_toc import Toc, TocEntry

_ROLE = r'("(?:[^"]|"")+"|[^\s,;"()]+)'
_GRANTEES = re.compile(rf"\b(?:TO|FROM) (?:GROUP )?{_ROLE}(?: WITH GRANT OPTION)?(?: GRANTED BY {_ROLE})?;")
_FOR_ROLE = re.compile(rf"\bALTER DEFAULT PRIVILEGES FOR ROLE {_ROLE}")
_SESSION = re.compile(rf"\bSET SESSION AUTHORIZATION {_ROLE};")
_POLICY_ROLES = re.compile(
    rf"\bCREATE POLICY .*?\bTO ({_ROLE}(?:, {_ROLE})*)(?= USING| WITH CHECK|;)", re.DOTALL
)
_USER_MAPPING = re.compile(rf"\bCREATE USER MAPPING FOR {_ROLE}")
_NOT_A_ROLE = frozenset({"public", "default", "current_user", "session_user", "current_role"})


def owners(toc: Toc) -> frozenset[str]:
    """Roles that own something in the archive."""
    return frozenset(entry.owner for entry in _restored(toc) if entry.owner)


def grantees(toc: Toc) -> frozenset[str]:
    """Roles that privileges in the archive are granted to or by."""
    found: set[str] = set()
    for entry in _restored(toc):
        if entry.desc in {"ACL", "DEFAULT ACL"}:
            for pattern in (_GRANTEES, _FOR_ROLE, _SESSION):
                for match in pattern.finditer(entry.definition):
                    found.update(_role(text) for text in match.groups() if text)
    return frozenset(found - _NOT_A_ROLE)


def named_roles(toc: Toc) -> frozenset[str]:
    """Roles that row security policies and user mappings name; no option of ``pg_restore`` leaves these out."""
    found: set[str] = set()
    for entry in _restored(toc):
        if entry.desc == "POLICY":
            for match in _POLICY_ROLES.finditer(entry.definition):
                found.update(_role(text[0]) for text in re.finditer(_ROLE, match[1]))
        elif entry.desc == "USER MAPPING":
            found.update(_role(match[1]) for match in _USER_MAPPING.finditer(entry.definition))
    return frozenset(found - _NOT_A_ROLE)


def _restored(toc: Toc) -> Iterator[TocEntry]:
    """Entries that a restore without ``--create`` executes: not those about the database itself."""
    return (
        entry
        for entry in toc.entries
        if entry.desc not in {"DATABASE", "DATABASE PROPERTIES"}
        and not (entry.namespace is None and entry.tag.startswith("DATABASE ") and entry.section == "none")
    )


def _role(text: str) -> str:
    # Unquoted, it is a keyword in any case: "GRANT ... TO PUBLIC".
    return text[1:-1].replace('""', '"') if text.startswith('"') else text.lower()


def extensions(toc: Toc) -> frozenset[str]:
    """Extensions that the archive creates."""
    return frozenset(entry.tag for entry in toc.entries if entry.desc == "EXTENSION")


_READS = {(1, 16): 17, (1, 15): 16}
"""Archive versions, and the oldest ``pg_restore`` that reads each; older ones are read by all that are supported."""


def client_major(toc: Toc, server_major: int) -> int:
    """Which major version of the client programs to look for: able to read the archive and to serve the server.

    It is the version that made the dump where possible, so that a second dump is written in the same way.
    """
    return max(_READS.get(toc.version, 0), major_of(toc.dump_version), server_major)


def check_programs(toc: Toc, tool_major: int) -> None:
    """Refuse a ``pg_restore`` that cannot read the archive.

    Raises:
        TargetError: it is too old.
    """
    needed = _READS.get(toc.version, 0)
    if tool_major < needed:
        raise TargetError(
            f"the snapshot's archive needs pg_restore {needed} or newer, and {tool_major} was chosen",
            hint=f"install PostgreSQL {needed}'s client programs, or name their directory in connection.programs",
            unaffected="nothing was started",
        )


def check_target(
    toc: Toc,
    *,
    server_version: int,
    roles: Iterable[str],
    available_extensions: Iterable[str],
    no_owner: bool = False,
) -> None:
    """Refuse a target that the archive cannot be restored into, before anything was started.

    Args:
        toc: what will be restored.
        server_version: the target's ``server_version_num``.
        roles: roles that exist on the target.
        available_extensions: extensions that the target can create.
        no_owner: owners and privileges will be left out.

    Raises:
        TargetError: the target is of an older major version than the source, or lacks roles or extensions.
    """
    source_major = major_of(toc.server_version)
    if server_version // 10_000 < source_major:
        raise TargetError(
            f"the snapshot was taken from PostgreSQL {source_major} and cannot be restored into the older PostgreSQL "
            f"{server_version // 10_000}",
            hint="restore into a server of the same major version or a newer one",
            unaffected="nothing was started",
        )
    wanted = named_roles(toc) if no_owner else owners(toc) | grantees(toc) | named_roles(toc)
    missing = sorted(wanted - set(roles))
    if missing:
        raise TargetError(
            f"roles that the snapshot needs do not exist on the target: {_quoted(missing)}",
            hint="create them (the snapshot's globals.sql has them)"
            + ("" if no_owner else ", or restore with --no-owner"),
            unaffected="nothing was started",
        )
    absent = sorted(extensions(toc) - set(available_extensions))
    if absent:
        raise TargetError(
            f"the target's server does not have the extensions {_quoted(absent)}",
            hint="install them on the server first",
            unaffected="nothing was started",
        )


def major_of(version: str) -> int:
    """The major version in a text such as ``17.10 (Debian 17.10-1)``."""
    match = re.match(r"\d+", version)
    if match is None:
        raise Damaged(f'the table of contents names the server version "{version}", which is not a number')
    return int(match[0])


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
