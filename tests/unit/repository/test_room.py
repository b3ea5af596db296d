"""Memory for packs that is used again: never while somebody may still read it."""

from __future__ import annotations

from dr_toolkit.repository.room import SIZE, Room, Rooms


def test_a_room_that_was_given_back_is_used_again_and_is_empty():
    """The next pack begins at its beginning."""
    rooms = Rooms()
    room = rooms.take()
    room.append(b"first")
    assert room.content() == b"first"
    rooms.give_back(room)
    again = rooms.take()
    assert again is room
    again.append(b"second")
    assert again.content() == b"second"


def test_a_room_that_somebody_still_reads_is_never_used_again():
    """A storage may hold the content of an attempt that it gave up: another pack must not appear in it."""
    rooms = Rooms()
    room = rooms.take()
    room.append(b"being sent")
    reader = memoryview(room.content())
    rooms.give_back(room)
    assert rooms.take() is not room
    assert reader == b"being sent"


def test_a_room_grows_where_a_pack_is_larger_than_expected():
    """What was there before stays."""
    room = Room()
    room.append(b"header")
    room.taken(SIZE)[:] = b"x" * SIZE
    content = bytes(room.content())
    assert content[:6] == b"header"
    assert content[6:] == b"x" * SIZE
