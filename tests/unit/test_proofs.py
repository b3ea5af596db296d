"""How many proofs run beside each other, what is shown of them, and how they are told to end."""

from __future__ import annotations

import threading

import pytest

from dr_toolkit import clock, errors, process
from dr_toolkit.jobs import proofs, side_by_side


@pytest.mark.parametrize(
    ("needs", "free", "most", "width"),
    [
        ([5, 5, 5], 100, 4, 3),
        ([5, 5, 5], 100, 2, 2),
        ([60, 50, 5], 100, 4, 1),  # the two largest may meet
        ([60, 30, 20], 100, 4, 2),
        ([500], 100, 4, 1),  # one is tried, and says itself that there is no room
        ([0, 0, 0], 0, 4, 3),  # not on this machine
    ],
)
def test_what_has_room_together_is_proved_together(needs, free, most, width):
    """The largest decide, so that no two meet that do not fit."""
    assert proofs.side_by_side(needs, free, most) == width


def test_stages_are_one_line_with_each_name_once():
    """A stage that names its component already is not named twice."""
    stages = {"console-db": "comparing", "cortex": "cortex: writing"}
    assert side_by_side.sentence(stages) == "console-db: comparing, cortex: writing"


def test_a_halt_ends_a_wait_of_its_threads_once():
    """The wait that it finds ends; waits while cleaning up do not; other threads are left alone."""
    halt, said = clock.Halt(), []

    def work():
        with clock.under(halt):
            try:
                clock.sleep(60)
            except errors.Interrupted as error:
                clock.sleep(0.01)
                said.append(error.exit_code)

    thread = threading.Thread(target=work)
    thread.start()
    halt.ask(15)
    thread.join(timeout=20)
    clock.sleep(0.001)
    assert said == [143]


def test_every_program_is_asked_to_end():
    """What a thread waits for ends, so that the thread can clean up."""
    with process.Pipe(["sleep", "60"]) as first, process.Pipe(["sleep", "60"]) as second:
        process.end_all()
        assert (first.wait(), second.wait()) == (-15, -15)
