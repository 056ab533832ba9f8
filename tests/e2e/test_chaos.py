"""The harness of tests/chaos itself: what a seed means, and that what is wrong is seen."""
import collections
import pathlib
import sys

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "gates"), str(TESTS / "chaos")]
import alerts  # noqa: E402
import plan as plans  # noqa: E402
import table  # noqa: E402
import verdict  # noqa: E402


def test_a_seed_is_one_plan_and_ten_seeds_take_each_point_once():
    assert plans.of(17) == plans.of(17)
    assert {plans.of(seed).point for seed in range(40, 50)} == set(plans.POINTS)


def test_two_hundred_seeds_take_every_place_victim_and_signal():
    made = [plans.of(seed) for seed in range(200)]
    assert {plan.place for plan in made} == {place for _, places in plans.POINTS.values() for place in places}
    assert {plan.victim for plan in made} == set(plans.BOUNDS)
    assert {plan.signal for plan in made} == set(plans.SIGNALS)


def test_a_place_of_a_transaction_is_struck_only_where_there_is_one():
    assert all(plan.delivery == "exactly-once" for plan in map(plans.of, range(1000)) if plan.place in plans.OF_TRANSACTIONS)


def test_places_are_those_of_the_code_and_a_stranger_is_named():
    code = (TESTS.parent / "core" / "src" / "fault.rs").read_text()
    plans.check_places(code)
    with pytest.raises(ValueError, match="'after-lunch'"):
        plans.check_places(code.replace('"after-intent"', '"after-lunch"'))


def test_rows_that_are_lost_doubled_or_strange_are_counted_and_named():
    counted = verdict.Counted()
    wanted = collections.Counter([(0, 1, 11), (0, 2, 12)])
    counted.compare("raw", wanted, collections.Counter([(0, 1, 11), (0, 1, 11), (0, 9, 19)]))
    assert (counted.lost, counted.doubled) == (1, 2)
    assert "(0, 2, 12)" in counted.notes[0] and "(0, 9, 19)" in counted.notes[0]
    counted.compare("good", wanted, wanted)
    assert len(counted.notes) == 1


def test_ranges_of_epochs_that_overlap_or_leave_a_hole_are_found():
    lines = lambda *ranges: [{"source": [{"partition": 0, "start": start, "end": end}]} for start, end in ranges]  # noqa: E731
    assert verdict.offsets(lines((0, 4), (4, 9))) == {}
    assert verdict.offsets(lines((0, 4), (5, 9))) == {0: (4, 5)}
    assert verdict.offsets(lines((0, 4), (3, 9))) == {0: (4, 3)}


def test_a_digest_does_not_depend_on_order_and_counts_repeats():
    places = [(0, 1), (0, 2), (1, 1)]
    assert verdict.digest("t", places) == verdict.digest("t", places[::-1])
    assert verdict.digest("t", places) != verdict.digest("t", [*places, (0, 1)])


class Message:
    def __init__(self, offset, value):
        self.place, self.bytes = offset, value

    def partition(self):
        return 0

    def offset(self):
        return self.place

    def value(self):
        return self.bytes


def test_bytes_that_are_no_alert_are_expected_in_quarantine_and_repeats_once_in_the_store():
    known = alerts.Fact(7, "ZTF1", alerts.RED, "kept", None)
    cut = alerts.Fact(8, "ZTF2", 1, "cut", "candidate.nbad = 0")
    expected = alerts.Expected([Message(0, b"a"), Message(1, b"b"), Message(2, b"a"), Message(3, b"noise")], {b"a": known, b"b": cut})
    assert expected.sinks["quarantine"] == collections.Counter([(0, 3)])
    assert expected.sinks["every"] == collections.Counter([(0, 0, 7), (0, 1, 8), (0, 2, 7)])
    assert expected.sinks["red"] == collections.Counter([(0, 0, 7), (0, 2, 7)])
    assert expected.sinks["chaos.objects"] == collections.Counter(["ZTF1_7"])
    assert (expected.kept, expected.cut) == (2, {"candidate.nbad = 0": 1})


def test_a_table_grows_and_its_summary_counts_failures(tmp_path):
    path = tmp_path / "results.tsv"
    assert table.next_seed(table.read(path)) == 0
    row = {"commit": "c", "seed": 4, "point": "intent", "place": "after-intent", "signal": "kill", "victim": "scheduler",
           "storage": "disk", "delivery": "exactly-once", "fired": "yes", "lost": 0, "doubled": 0, "balanced": "yes", "audit": "clean",
           "recovered": 1.5, "load": 1, "took": 9, "verdict": "ok"}
    table.append(path, row)
    table.append(path, {**row, "seed": 14, "doubled": 2, "recovered": 3.5, "verdict": "2 doubled"})
    rows = table.read(path)
    assert table.next_seed(rows) == 15
    text = table.summary(rows)
    assert "| **intent**, `after-intent` | 2 | 0 | 2 | 1 |  | 2.5 / 3.5 (2) |  |" in text
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.publish(path, page)
    assert text in page.read_text() and "old" not in page.read_text() and page.read_text().endswith(f"{table.END}\nafter\n")
