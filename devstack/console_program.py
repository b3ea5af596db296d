"""Stands for Console's program where an image is needed: it migrates the database that it is given, and answers for its health.

``python -m devstack.console_program MODE``. A good one is ``good``; each other mode goes wrong in one way:

* ``broken``: its migration fails, and it ends, as Console does.
* ``recorded``: its migration history says that a migration failed, and it starts all the same.
* ``sick``: it migrates and never gets healthy.
* ``loud``: it is healthy and writes an error.
* ``crash``: it ends at once.
* ``dying``: it ends soon after it was healthy.
* ``slow``: its migration does not end.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg

PORT = 8080
_HISTORY = "flyway_schema_history"


def say(level: str, text: str) -> None:
    """Write a line of a log as Console's.

    Args:
        level: such as ``INFO``.
        text: the rest of the line.
    """
    print(
        f"{time.strftime('%Y-%m-%dT%H:%M:%S')},000 [main] {level} io.conduktor.Console - {text}", flush=True
    )


def migrate(url: str, mode: str) -> None:
    """Add a column and note it in the history.

    Args:
        url: of the database.
        mode: how.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute(f"SELECT coalesce(max(installed_rank), 0) + 1 FROM {_HISTORY}").fetchall()
        rank = rows[0][0]
        say("INFO", f"migrating schema to version {47 + rank}")
        if mode == "slow":
            time.sleep(600)
        if mode == "broken":
            say("ERROR", f"Migration V{47 + rank}__emails.sql failed: column already exists")
            sys.exit(1)
        connection.execute(f"ALTER TABLE users ADD COLUMN email_{rank} text")
        connection.execute(
            f"INSERT INTO {_HISTORY} (installed_rank, version, description, success) VALUES (%s, %s, %s, %s)",
            (rank, str(47 + rank), "emails", mode != "recorded"),
        )


class Health(BaseHTTPRequestHandler):
    """The health endpoint."""

    status = 200

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(self.status if self.path == "/api/health/ready" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is given
        """Say nothing."""


def main(mode: str) -> None:
    """Be Console.

    Args:
        mode: how.
    """
    say("INFO", "starting")
    if mode == "crash":
        sys.exit(3)
    migrate(os.environ["CDK_DATABASE_URL"], mode)
    say("ERROR", "kafka admin client: Connection to node -1 (kafka:9092) could not be established")
    if mode == "loud":
        say("ERROR", "NullPointerException in AlertService")
    Health.status = 503 if mode == "sick" else 200
    server = ThreadingHTTPServer((os.environ.get("DEVSTACK_POD_IP", "127.0.0.1"), PORT), Health)
    if mode == "dying":
        threading.Timer(2.0, lambda: os._exit(9)).start()
    say("INFO", "ready" if Health.status == 200 else "waiting")
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
