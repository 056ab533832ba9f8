import pytest

from redpoll.consumer import FirstOnly, identity


def headers(epoch, source, job="a1b2"):
    return [("redpoll-job", job.encode()), ("redpoll-epoch", str(epoch).encode()), ("redpoll-source", source.encode())]


def test_a_record_says_who_wrote_it_and_from_which_alert():
    assert identity(headers(3, "ztf:0:17#1")) == ("a1b2", 3, "ztf:0:17#1")
    assert identity([("redpoll-job", "a1b2")]) is None
    assert identity(None) is None


def test_equal_headers_are_a_repeat_and_other_alerts_are_not():
    first = FirstOnly()
    seen = [first(headers(0, "ztf:0:1")), first(headers(0, "ztf:0:1#1")), first(headers(0, "ztf:0:1"))]
    assert seen == [True, True, False]
    assert first(headers(0, "ztf:0:1", job="other")) and first.repeats == 1


def test_records_of_others_all_count():
    first = FirstOnly()
    assert [first(None), first([("trace", b"x")]), first(None)] == [True, True, True]


def test_memory_is_the_newest_epochs_and_what_is_older_was_seen():
    first = FirstOnly(epochs=2)
    assert all(first(headers(epoch, "ztf:0:1")) for epoch in range(5))
    assert not first(headers(0, "ztf:0:1"))
    assert not first(headers(4, "ztf:0:1"))
    assert first(headers(5, "ztf:0:1"))
    with pytest.raises(ValueError, match="at least one"):
        FirstOnly(epochs=0)
