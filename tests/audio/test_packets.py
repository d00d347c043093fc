"""Packets are played in their order, once, and what never came is counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voxnb.audio.packets import REORDER, RESTART, PacketOrder


def run(chunks):
    order = PacketOrder()
    out = [p for chunk in chunks for p in order.add(chunk, str(chunk).encode())] + order.flush()
    return [int(p.payload) for p in out], sum(p.lost for p in out), order.counters


def test_packets_in_order_pass_at_once():
    order = PacketOrder()
    for chunk in range(5, 50):
        assert len(order.add(chunk, b"x")) == 1


def test_a_lost_packet_is_given_up_after_a_few():
    order = PacketOrder()
    order.add(1, b"1")
    assert [order.add(n, b"x") for n in range(3, 3 + REORDER - 1)] == [[]] * (REORDER - 1)
    out = order.add(3 + REORDER - 1, b"x")
    assert [p.lost for p in out] == [1] + [0] * (REORDER - 1)
    assert order.counters.lost == 1


def test_two_that_changed_places_change_back():
    assert run([1, 2, 4, 3, 5])[0] == [1, 2, 3, 4, 5]
    assert run([1, 2, 4, 3, 5])[2].reordered == 1


def test_a_second_one_is_dropped():
    heard, _, counters = run([1, 1, 2, 4, 4, 3])
    assert heard == [1, 2, 3, 4]
    assert (counters.late, counters.duplicated) == (1, 1)


def test_a_count_that_begins_anew_is_no_gap():
    heard, lost, _ = run([5000, 5001, 1, 2, 3])
    assert heard == [5000, 5001, 1, 2, 3]
    assert lost == 0
    assert run([1, 1 + 2 * RESTART])[1] == 0


def test_packets_without_a_number_pass_as_they_come():
    order = PacketOrder()
    assert [p.payload for n in range(3) for p in order.add(None, bytes([n]))] == [b"\0", b"\1", b"\2"]


@given(
    fates=st.lists(st.sampled_from(["comes", "comes", "comes", "lost", "twice", "late"]), min_size=1, max_size=120),
    start=st.integers(0, 10),
)
def test_whatever_a_network_does_the_order_holds_and_the_counts_add_up(fates, start):
    sent = []
    held = []
    for number, fate in enumerate(fates, start):
        if fate != "lost":
            (held if fate == "late" else sent).append(number)
        if fate == "twice":
            sent.append(number)
        if held and fate != "late":
            sent.append(held.pop())
    sent += held
    heard, lost, counters = run(sent)
    assert heard == sorted(set(heard))
    assert counters.received == len(sent)
    assert len(heard) + counters.duplicated + counters.late == len(sent)
    if heard:
        assert len(heard) + lost == heard[-1] - heard[0] + 1


@given(st.lists(st.integers(0, 5000) | st.none(), max_size=60))
def test_any_numbers_are_survived_and_nothing_is_kept(chunks):
    order = PacketOrder()
    out = [p for chunk in chunks for p in order.add(chunk, b"x")]
    assert len(order._early) < REORDER
    out += order.flush()
    assert not order._early
    assert len(out) + order.counters.late + order.counters.duplicated == len(chunks)
