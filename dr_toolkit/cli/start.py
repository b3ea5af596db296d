"""The console script: what must hold from the first moment, before anything else is imported."""

from __future__ import annotations

import os
import signal


def entry_point() -> None:
    """Run ``drctl`` and end the process.

    Until a command runs nothing is under way: Ctrl-C ends drctl in silence then, and not in the traceback of an import. Who ignores the
    signal (``nohup``, a shell's background) is not overruled.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Pydantic would look through every installed package for plugins of others, which drctl has no use for.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from dr_toolkit.cli import main  # after the line above

    main.entry_point()
