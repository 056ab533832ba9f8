"""What a seed means: where a run is struck, whom, how, and in which surroundings.

A *point* is a part of an epoch's life. It has one or more *places*, those of `core/src/fault.rs`; each is reached by one role,
the *actor*. The *victim* may be the actor, which then does it to itself, or the other role: then the actor is held at the place
while the victim is struck from outside.
"""
import dataclasses
import random
import re

# point -> (actor, places), in the order in which an epoch comes by.
POINTS = {
    "intent": ("scheduler", ["after-intent"]),
    "produce": ("executor", ["after-lane-taken", "mid-run"]),
    "store-put": ("executor", ["before-store-put", "after-store-put"]),
    "delta-file": ("executor", ["before-delta-file", "after-delta-file"]),
    "topic-commit": ("executor", ["before-kafka-commit", "after-kafka-mark", "after-kafka-commit"]),
    "receipt": ("executor", ["before-receipt", "after-receipt"]),
    "all-receipts": ("scheduler", ["after-run"]),
    "prepared": ("scheduler", ["after-prepared"]),
    "publish": ("scheduler", ["before-delta-commit", "between-tables", "after-publish"]),
    "committed": ("scheduler", ["after-committed"]),
}
# Places that only a transaction reaches.
OF_TRANSACTIONS = {"after-lane-taken", "before-kafka-commit", "after-kafka-mark", "after-kafka-commit"}

# Places that a chaos run does not reach, and who strikes there.
ELSEWHERE = {"after-send": "tests/gates/outbox"}

# How long the actor is held; the harness must strike within it.
HELD = 2.0
# What each signal does.
SIGNALS = {
    "kill": "SIGKILL; a scheduler is started again at once, an executor by the seed",
    "stop": "SIGSTOP, SIGCONT after a pause: shorter or longer than the executor watch's patience",
    "replace": "SIGSTOP to the scheduler; a second one takes over; SIGCONT when that has done everything",
    "reset": "for a while connections to a service are reset",
    "answer-lost": "for a while S3 does what it is asked, and connections are reset before it answers",
    "503": "for a while S3 answers 503",
    "blackhole": "for a while connections to a service carry nothing",
}
OF_NETWORKS = {
    "s3": ["reset", "answer-lost", "503", "blackhole"], "kafka": ["reset", "blackhole"], "store": ["reset", "blackhole"],
}
# Seconds within which work goes on. Of schedulers they count from the new start, of networks from their repair.
BOUNDS = {"executor": 15.0, "scheduler": 10.0, "s3": 15.0, "kafka": 15.0, "store": 15.0}


@dataclasses.dataclass(frozen=True)
class Plan:
    seed: int
    point: str
    place: str
    actor: str
    victim: str
    signal: str
    # How long a stop or an outage lasts, in seconds.
    pause: float
    # The nth time that a process reaches the place once the fault is armed.
    nth: int
    # Whether an epoch is committed before the fault is armed.
    warm: bool
    storage: str
    delivery: str
    # A `redpoll store` of its own, or the scheduler's.
    store_apart: bool
    n_alerts: int
    # Alerts that are sent at a time.
    wave: int
    bad_share: float
    partitions: int
    vcores: int
    # Whether a killed executor is started again.
    respawn: bool
    checkpoint_every: int
    # Makes what is random in the run itself.
    inner: int

    @property
    def held(self):
        """Whether the victim is struck from outside while the actor waits."""
        return self.victim != self.actor

    @property
    def fault(self):
        """As REDPOLL_FAULT wants it."""
        action = f"delay-{int(HELD * 1000)}" if self.held else "kill" if self.signal == "kill" else "stop"
        return f"{self.place}:{action}:{self.nth}"

    @property
    def bound(self):
        return BOUNDS[self.victim]

    def __str__(self):
        how = f" for {self.pause:.1f} s" if self.signal not in ("kill", "replace") else ""
        return (f"seed {self.seed}: {self.signal}{how} of {self.victim} at {self.place} ({self.point}, nth {self.nth}, "
                f"{'warm' if self.warm else 'cold'}), {self.storage}, {self.delivery}, {self.n_alerts} alerts in {self.partitions} "
                f"partitions, store {'apart' if self.store_apart else 'in the scheduler'}")


def of(seed):
    """Successive seeds take the points in turn, so that any ten of them take each point once."""
    dice = random.Random(f"redpoll chaos {seed}")
    point = list(POINTS)[seed % len(POINTS)]
    actor, places = POINTS[point]
    delivery = dice.choices(["exactly-once", "at-least-once"], [7, 1])[0]
    if delivery == "at-least-once":
        places = [place for place in places if place not in OF_TRANSACTIONS] or places
    place = dice.choice(places)
    if place in OF_TRANSACTIONS:
        delivery = "exactly-once"
    victim = dice.choices([actor, "executor" if actor == "scheduler" else "scheduler", "s3", "kafka", "store"], [12, 4, 3, 2, 1])[0]
    signal = _signal(dice, victim)
    pause = dice.uniform(0.5, 4.0)
    if victim == "executor" and dice.random() < 0.5:
        pause = dice.uniform(9.0, 11.0)  # given up after about 8 s, and woken when others do its work
    storage = "s3" if victim == "s3" else dice.choice(["disk", "s3"])
    wave = dice.randint(24, 60)
    return Plan(
        seed=seed, point=point, place=place, actor=actor, victim=victim, signal=signal, pause=pause,
        nth=dice.choices([1, 2, 3], [3, 2, 1])[0], warm=dice.random() < 0.75, storage=storage, delivery=delivery,
        store_apart=victim == "store" or signal == "replace" or dice.random() < 0.3,
        n_alerts=wave * dice.randint(6, 8), wave=wave, bad_share=dice.choice([0.0, 0.02]), partitions=dice.randint(1, 3),
        vcores=dice.choice([1, 2]), respawn=dice.random() < 0.6, checkpoint_every=dice.choice([3, 10, 1000]),
        inner=dice.getrandbits(32))


def _signal(dice, victim):
    if victim == "scheduler":
        return dice.choices(["kill", "stop", "replace"], [6, 2, 1])[0]
    if victim == "executor":
        return dice.choices(["kill", "stop"], [3, 2])[0]
    return dice.choice(OF_NETWORKS[victim])


def check_places(fault_rs):
    """Each place of the code is in one point, and none is made up."""
    listed = fault_rs.split("pub const POINTS", 1)[1].split("];", 1)[0]
    known = set(re.findall(r'^\s*"([a-z-]+)",', listed, re.M))
    used = [place for _, places in POINTS.values() for place in places]
    if sorted([*used, *ELSEWHERE]) != sorted(known):
        raise ValueError(f"places of tests/chaos/plan.py and core/src/fault.rs differ: {sorted({*used, *ELSEWHERE} ^ known)}")
