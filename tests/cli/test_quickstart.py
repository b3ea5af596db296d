"""docs/quickstart.md, typed as it stands: the first thing that a stranger runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

from devstack import data, sql
from devstack.postgres import PostgresServer

PAGE = Path(__file__).parents[2] / "docs/quickstart.md"
EXAMPLE = "export CONSOLE_DB="


def blocks() -> list[str]:
    """What is to be typed, without the line that everybody writes for a database of one's own."""
    found = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found[0].startswith(EXAMPLE)
    # Not on a terminal, "drctl restore" alone ends with 2: a script that forgot the component restored nothing.
    return [block.replace("drctl restore\n", "drctl restore || test $? = 2\n") for block in found[1:]]


def test_the_quick_start_works_as_it_stands(
    tmp_path: Path, postgres: PostgresServer, database: str, monkeypatch
) -> None:
    """Every line succeeds, the trust line is where the page says, nothing warns about it after, and the copy has the rows."""
    data.fill_console_like(postgres.dsn(database), scale=0.02)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "LANG": "C.UTF-8", "CONSOLE_DB": postgres.dsn(database)}
    said = []
    try:
        for block in blocks():
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block],
                cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
            said.append(done.stdout + done.stderr)
            trust = re.search(r'^ +(trust: "ed25519:.+")$', done.stdout, re.MULTILINE)
            if trust:
                config = (tmp_path / "drctl.yaml").read_text()
                (tmp_path / "drctl.yaml").write_text(
                    re.sub(r"(?m)^(  url: .*)$", rf"\1\n  {trust[1]}", config, count=1)
                )
        rows = "SELECT count(*) FROM audit.events"
        assert sql.rows(postgres.dsn("practice"), rows) == sql.rows(postgres.dsn(database), rows)
    finally:
        postgres.drop_database("practice")
    assert "PASSED  console-db" in said[1]
    assert "repository.trust is not set" not in said[1] + said[2]
    assert not re.search("Traceback|FAILED", "".join(said))
