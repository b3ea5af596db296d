"""``drctl doctor``."""

from __future__ import annotations

import sys

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog


@click.command(
    "doctor", epilog=epilog("drctl doctor", "drctl doctor --output json", codes=(0, 1, 2, 130, 143))
)
@common
@click.pass_obj
def command(context: Context) -> None:
    """Check configuration, reach, permissions, versions, keys, Object Lock; and say what a disaster would take all the same.

    Changes nothing. Each part is looked at for itself. Warnings alone are code 0; anything that failed is code 1. In a cluster it
    compares RBAC with what the configured components need, names each missing rule as YAML, finds stuck Helm releases with the way
    out, and Secrets without which a platform is lost.
    """
    context.configure_log()
    from dr_toolkit.jobs import doctor, findings
    from dr_toolkit.reporting import doctor_text

    found = doctor.run(context.load_config(), context.progress())
    context.emit(doctor_text.document(found), doctor_text.text(found))
    sys.exit(findings.exit_code(found))
