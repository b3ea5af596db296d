"""Documents that cannot go stale: links, error codes, rooms and decisions are held against the repository itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from dr_toolkit import errors

ROOT = Path(__file__).resolve().parents[2]
ADRS = sorted((ROOT / "docs" / "adr").glob("*.md"))
ADR_SECTIONS = ("Context", "Decision", "Rejected", "Consequences")


def documents() -> list[Path]:
    """All Markdown of the project itself, not of what is installed below it."""
    found = [*ROOT.glob("*.md")]
    for folder in ("docs", "runbooks", "benchmarks", "rescue", "tests/vectors", "devstack"):
        found += (ROOT / folder).rglob("*.md")
    return sorted(found)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """The text without blocks of code, in which brackets mean something else."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """What a link to a heading of this document may end with."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", prose(path), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def resolves(target: str, path: Path) -> bool:
    """Whether a link in the document leads somewhere; what lies outside of the project is not looked at."""
    if re.match(r"[a-z]+:", target):
        return True
    file, _, anchor = target.partition("#")
    place = (path.parent / file).resolve() if file else path
    if not place.is_relative_to(ROOT) or not place.exists():
        return False
    return not anchor or place.suffix != ".md" or anchor in anchors(place)


def error_classes() -> list[type[errors.DrctlError]]:
    found: list[type[errors.DrctlError]] = []
    waiting: list[type[errors.DrctlError]] = [errors.DrctlError]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += one.__subclasses__()
    return [one for one in found if one.__module__ == errors.__name__]


def code_table() -> dict[str, tuple[str, str]]:
    """(exit code, retry) by error code, from the table of architecture.md."""
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d[\d or,]*?) \| .+ \| (yes|no) \|$", text, flags=re.MULTILINE)
    return {code: (exit_code, retry) for code, exit_code, retry in rows}


@pytest.mark.parametrize("path", documents(), ids=name)
def test_links_between_documents_resolve(path: Path) -> None:
    """Every relative link leads to a file of the project, and its anchor to a heading there."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(path))
    assert not [target for target in targets if not resolves(target, path)]


@pytest.mark.parametrize("path", documents(), ids=name)
def test_documents_name_no_path_of_a_machine(path: Path) -> None:
    """A document means the same everywhere: no home directory, no checkout."""
    places = [str(ROOT), str(Path.home())]
    patterns = [rf"(?<![\w.~-]){re.escape(place)}(?![\w-])" for place in places if len(place) > 1]
    patterns.append(r"(?<![\w.-])/(?:home|Users|root|mnt|workspace)/[\w.-]+")
    text = path.read_text("utf-8")
    assert not [found for pattern in patterns for found in re.findall(pattern, text)]


def test_error_codes_are_unique() -> None:
    """A script that looks at a code can rely on it to mean one thing."""
    codes = [one.code for one in error_classes()] + [errors.Interrupted.code]
    assert len(codes) == len(set(codes))


def test_every_error_states_its_own_code() -> None:
    """A new class does not inherit its parent's code by accident."""
    assert not [one.__name__ for one in error_classes() if "code" not in vars(one)]


def test_every_error_code_is_documented_with_its_exit_code() -> None:
    """The table in architecture.md is what the code does: no code is missing, none is too many."""
    expected = {one.code: (str(one.exit_code), "yes" if one.retry else "no") for one in error_classes()}
    stops = [errors.Interrupted(number).exit_code for number in (1, 2, 15)]
    expected[errors.Interrupted.code] = ("{}, {} or {}".format(*stops), "no")
    assert code_table() == expected


def test_the_picture_of_the_rooms_is_the_contract() -> None:
    """architecture.md draws the layers that import-linter holds."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    picture = re.search(r"^## 2\. .*?^```\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert picture is not None
    assert [re.split(r" {2,}", line)[0] for line in picture[1].splitlines()] == layers


@pytest.mark.parametrize("path", ADRS, ids=name)
def test_every_decision_has_its_sections(path: Path) -> None:
    """Context, decision, what was rejected and what follows: in this order, none empty, under the file's number."""
    text = path.read_text("utf-8")
    title, *rest = re.split(r"^## ", text, flags=re.MULTILINE)
    assert title.startswith(f"# {path.name[:4]} ")
    assert tuple(section.partition("\n")[0] for section in rest) == ADR_SECTIONS
    assert all(section.partition("\n")[2].strip() for section in rest)


def test_decisions_are_numbered_without_gaps() -> None:
    """A number names one decision for ever."""
    assert [path.name[:4] for path in ADRS] == [f"{number:04d}" for number in range(1, len(ADRS) + 1)]


def test_tests_that_documents_name_exist() -> None:
    """Whoever reads "shown by" finds the test."""
    missing = []
    for path in documents():
        for file, _, function in re.findall(r"`(tests/[\w/]+\.py)(::(\w+))?`", path.read_text("utf-8")):
            place = ROOT / file
            if not place.is_file() or (function and f"def {function}(" not in place.read_text("utf-8")):
                missing.append(f"{name(path)}: {file}")
    assert not missing


def test_every_runtime_dependency_has_its_reasons() -> None:
    """A library that nobody argued for is not added."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    table = (ROOT / "docs/adr/0001-libraries.md").read_text("utf-8").lower()
    listed = [re.match(r"[\w.-]+", line) for line in project["dependencies"]]
    assert not [found[0] for found in listed if found and found[0].lower() not in table]
