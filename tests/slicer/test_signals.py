from __future__ import annotations

import pytest
from CineLabelLib.signals import Signal


def test_slots_are_called_in_order_with_what_is_emitted():
    heard = []
    signal = Signal()
    signal.connect(lambda *args: heard.append(("one", args)))
    signal.connect(lambda *args: heard.append(("two", args)))
    signal.emit(3, "x")
    assert heard == [("one", (3, "x")), ("two", (3, "x"))]


def test_a_slot_is_called_once_however_often_it_is_connected_and_not_after_disconnecting():
    heard = []
    signal = Signal()
    signal.connect(heard.append)
    signal.connect(heard.append)
    signal.emit(1)
    signal.disconnect(heard.append)
    signal.disconnect(heard.append)
    signal.emit(2)
    assert heard == [1]


def test_a_slot_that_raises_keeps_no_other_from_being_called():
    heard = []
    signal = Signal()

    def fail(value: int) -> None:
        raise ValueError(f"slot {value}")

    signal.connect(fail)
    signal.connect(heard.append)
    signal.connect(lambda value: 1 // 0)
    with pytest.raises(ValueError, match="slot 7"):
        signal.emit(7)
    assert heard == [7]


def test_a_slot_may_disconnect_itself():
    heard = []
    signal = Signal()

    def once(value: int) -> None:
        heard.append(value)
        signal.disconnect(once)

    signal.connect(once)
    signal.connect(heard.append)
    signal.emit(1)
    signal.emit(2)
    assert heard == [1, 1, 2]
