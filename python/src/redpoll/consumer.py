"""For consumers of Redpoll's topics: which records are repeats.

Every record has three headers: `redpoll-job` (which job wrote it), `redpoll-epoch` and `redpoll-source` (topic, partition and
offset at which its alert was read, `#n` after it for the n-th further alert of one record). A topic with `delivery`
`at-least-once` may hold a record again after a failure, with equal headers:

    first = FirstOnly()
    for message in messages:            # of confluent-kafka; of kafka-python give message.headers
        if first(message.headers()):
            handle(message)

Only topics whose records each come from an alert of their own can be read so: where an `INSERT` takes lists apart with
`unnest`, or two `INSERT`s write one topic, several records have equal headers and are all meant.
"""

__all__ = ["FirstOnly", "identity"]


def identity(headers):
    """`(job, epoch, source)` of a record, or None if Redpoll did not write it."""
    found = {name: value for name, value in headers or ()}
    job, epoch, source = (found.get(f"redpoll-{name}") for name in ("job", "epoch", "source"))
    if job is None or epoch is None or source is None:
        return None
    return _text(job), int(_text(epoch)), _text(source)


class FirstOnly:
    """Says of each record whether it is the first with its headers.

    What it remembers is bounded: the sources of the newest `epochs` epochs of each job. An epoch is repeated before the
    next one begins, so few are enough; one older than those is taken for a repeat, as everything of it was seen.
    """

    def __init__(self, epochs=16):
        if epochs < 1:
            raise ValueError(f"epochs is {epochs}; remember at least one")
        self.epochs = epochs
        self.repeats = 0
        self._seen = {}

    def __call__(self, headers):
        record = identity(headers)
        if record is None:
            return True
        job, epoch, source = record
        seen = self._seen.setdefault(job, {})
        if epoch not in seen:
            if len(seen) >= self.epochs and epoch < min(seen):
                self.repeats += 1
                return False
            seen[epoch] = set()
            while len(seen) > self.epochs:
                del seen[min(seen)]
        if source in seen[epoch]:
            self.repeats += 1
            return False
        seen[epoch].add(source)
        return True


def _text(value):
    return value.decode() if isinstance(value, bytes) else value
