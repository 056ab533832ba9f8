#!/usr/bin/env python3
"""One seeded run: a job is struck once, and what it leaves must be what an undisturbed one leaves.

    one.py SEED FOLDER        the result is in FOLDER/result.json
"""
import dataclasses
import json
import os
import pathlib
import random
import signal
import sys
import time
import traceback

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / folder) for folder in ("gates", "services")]
import lib  # noqa: E402

lib.in_test_venv()

import alerts  # noqa: E402
import broker  # noqa: E402
import plan as plans  # noqa: E402
import recovery  # noqa: E402
import trial as trials  # noqa: E402
import verdict  # noqa: E402
from fault_proxy import FaultProxy  # noqa: E402

# An HTTP proxy acts on requests, one of bytes on what passes.
RULES = {
    "reset": {"action": "reset"}, "answer-lost": {"action": "reset-after"}, "503": {"action": "status", "status": 503},
    "blackhole": {"action": "blackhole"},
}
ENDED = "it was told to end"


class Late(Exception):
    """The harness itself was too slow: nothing is known of Redpoll."""


class Run:
    def __init__(self, plan, folder, servers):
        self.plan, self.folder, self.servers = plan, folder, servers
        self.dice = random.Random(plan.inner)
        self.witness = folder / "witness"
        self.proxy = None
        if plan.victim == "kafka":
            self.proxy = FaultProxy(servers, tcp=True, listen=os.environ[broker.PROXY], seed=plan.seed)
        self.trial = trials.Trial(
            folder, f"chaos-{plan.seed}", servers, self.dice, on_s3=plan.storage == "s3", partitions=plan.partitions,
            delivery=plan.delivery, bad_share=plan.bad_share)
        self.env = {"REDPOLL_FAULT": plan.fault, "REDPOLL_FAULT_WITNESS": str(self.witness)}
        self.begun = time.monotonic()
        # When the fault fired, when the victim was struck, and from when on the time to recover counts.
        self.fired_at = self.struck_at = self.since = None
        # Processes that need not run at the end.
        self.gone = set()

    def say(self, text):
        print(f"{time.monotonic() - self.begun:6.2f} s  {text}", flush=True)

    # -- surroundings

    def start(self):
        plan, self.options = self.plan, []
        if plan.store_apart:
            address = trials.Store(self.folder).address
            if plan.victim == "store":
                self.proxy = FaultProxy(address, tcp=True, seed=plan.seed)
                address = self.proxy.listen
            self.options = ["--store", address]
        if plan.victim == "s3":
            self.proxy = FaultProxy(os.environ["AWS_ENDPOINT_URL"].split("//")[1], seed=plan.seed)
            self.env["AWS_ENDPOINT_URL"] = self.proxy.url
        self.cluster = self.trial.add_cluster(plan.vcores, self.options, ["--checkpoint-every", plan.checkpoint_every], self.env)
        self.cluster.start()
        if not plan.warm:
            self.arm()
        self.split_bytes = self.trial.sender.mean_bytes() * plan.wave // 4
        self.send()
        self.trial.submit(self.split_bytes)
        if plan.warm:
            self.trial.wait_committed()
            self.say("the first epochs are committed")
            self.arm()

    def arm(self):
        self.witness.mkdir()

    def send(self):
        self.trial.sender.send(self.plan.wave)

    def left_to_send(self):
        return self.trial.sender.sent + self.plan.wave <= self.plan.n_alerts

    # -- the fault

    def look_for_witness(self):
        """The moment at which the fault fired, and in which process."""
        path = self.witness / self.plan.place
        try:
            pid = int(path.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        return path.stat().st_mtime, pid

    def provoke(self):
        """Alerts, wave by wave, until the fault fires."""
        seen = None
        while not seen:
            over = lambda: self.look_for_witness() or self.trial.all_committed()  # noqa: E731
            lib.wait_for("the fault or the end of a wave", over, trials.PATIENCE, 0.02)
            seen = self.look_for_witness()
            if not seen and not self.left_to_send():
                raise lib.TimedOut(f"the fault did not fire in {self.trial.sender.sent} alerts")
            if not seen:
                self.send()
        self.fired_at, pid = seen
        self.struck_at = self.fired_at
        self.actor = next(process for process in self.roles(self.plan.actor) if process.pid == pid)
        self.say(f"{self.actor.name} is at {self.plan.place}")

    def roles(self, role):
        return [self.cluster.scheduler] if role == "scheduler" else self.cluster.executors

    def strike(self):
        """What the fault itself does not do; then the repair. Sets `since`."""
        if not self.plan.held:
            self.victim = self.actor
        elif self.plan.victim in plans.OF_NETWORKS:
            self.victim = None
        else:
            self.victim = self.dice.choice(self.roles(self.plan.victim))
        {"kill": self.kill, "stop": self.stop, "replace": self.replace}.get(self.plan.signal, self.cut)()

    def from_outside(self, what, act):
        """To be in time, the strike has to come while the actor is held."""
        act()
        self.struck_at = time.time()
        late = self.struck_at - self.fired_at
        if late > plans.HELD:
            raise Late(f"{what} came {late:.1f} s after the fault fired, when the actor was held no longer")
        self.say(f"{what}, {late * 1000:.0f} ms later")

    def outlast(self):
        """The pause begins when the actor goes on: a blow that is over by then would meet nobody."""
        held = plans.HELD if self.plan.held else 0
        time.sleep(max(0, self.struck_at + held + self.plan.pause - time.time()))

    def kill(self):
        if self.plan.held:
            self.from_outside(f"SIGKILL to {self.victim.name}", lambda: os.kill(self.victim.pid, signal.SIGKILL))
        code = self.victim.wait(30)
        if code != -signal.SIGKILL:
            raise RuntimeError(f"{self.victim.name} ended with {code}, not by SIGKILL\n{self.victim.tail()}")
        self.gone.add(self.victim)
        self.since = self.struck_at
        if self.plan.victim == "scheduler":
            self.since = time.time()
            self.cluster.start_scheduler()
        elif self.plan.respawn:
            self.cluster.executors.append(self.cluster.start_executor())
        self.send_more()

    def freeze(self):
        if self.plan.held:
            self.from_outside(f"SIGSTOP to {self.victim.name}", lambda: os.kill(self.victim.pid, signal.SIGSTOP))
        lib.wait_for(f"{self.victim.name} stands still", self.victim.is_frozen, 30, 0.01)

    def stop(self):
        self.freeze()
        self.send_more()
        self.outlast()
        self.since = time.time() if self.plan.victim == "scheduler" else self.struck_at
        os.kill(self.victim.pid, signal.SIGCONT)
        self.say(f"SIGCONT to {self.victim.name}")

    def replace(self):
        """The second scheduler has executors of its own, as those of the first wait for that one."""
        self.freeze()
        self.send_more()
        second = self.trial.add_cluster(
            self.plan.vcores, self.options, ["--checkpoint-every", self.plan.checkpoint_every], self.env)
        self.since = time.time()
        second.start()
        self.trial.wait_committed()
        self.say("a second scheduler has done everything")
        os.kill(self.victim.pid, signal.SIGCONT)
        code = self.victim.wait(trials.PATIENCE)
        text = self.victim.log.read_text(errors="replace")
        if code != 1 or "fenced" not in text:
            raise RuntimeError(f"the first scheduler, woken, ended with {code} and did not say that it was fenced\n{self.victim.tail()}")
        self.say("the first scheduler, woken, says that it was fenced and ends")
        self.gone.update([self.victim, *self.cluster.executors])
        self.cluster = second

    def cut(self):
        self.from_outside(f"{self.plan.signal} of {self.plan.victim}", lambda: self.proxy.rules(RULES[self.plan.signal]))
        if self.plan.signal != "503":
            self.proxy.reset()
        if self.plan.victim != "kafka":  # where the harness could send nothing either
            self.send_more()
        self.outlast()
        acted = lib.wait_for("a request or a piece that is struck", self.proxy.fired, 30)
        self.proxy.rules()
        self.since = time.time()
        self.say(f"{self.plan.victim} is back, {acted} requests or pieces were struck")
        if self.plan.victim == "kafka":
            self.send_more()

    def send_more(self):
        if self.left_to_send():
            self.send()

    # -- the end

    def recovered(self):
        scheduler = self.cluster.scheduler
        alone = self.plan.victim == "executor" and self.plan.actor == "scheduler"
        return recovery.progress(scheduler, self.since, committed_too=not alone)

    def finish(self):
        """Work goes on, now and with another wave."""
        self.trial.wait_committed()
        self.say("everything is committed")
        self.trial.sender.send(self.plan.wave // 2)
        self.trial.wait_committed()
        moment = lib.wait_for("an epoch after the fault in the scheduler's log", self.recovered, 30)
        self.recovered_after = moment - self.since
        self.say(f"work went on after {self.recovered_after:.2f} s")
        dead = [process for process in self.trial_processes() if not process.running() and process not in self.gone]
        if dead:
            raise RuntimeError("\n".join(f"{process.name} ended by itself with {process.child.returncode}\n{process.tail()}" for process in dead))
        self.trial.stop()

    def trial_processes(self):
        return [self.cluster.scheduler, *self.cluster.executors]

    def go(self):
        self.start()
        self.provoke()
        self.strike()
        self.finish()
        expected = self.trial.expected(alerts.made())
        if expected.n_records != self.trial.sender.sent:
            raise RuntimeError(f"{expected.n_records} records are in the topic that is read, {self.trial.sender.sent} were sent")
        counted = verdict.count(self.trial, expected)
        self.say(f"{counted.lost} lost, {counted.doubled} doubled, {len(counted.unbalanced)} sums of the ledger differ, audit {counted.audit[:200]}")
        for note in [*counted.notes, *counted.unbalanced]:
            self.say(note)
        return counted

    def close(self, keep):
        self.trial.close(keep)
        if self.proxy:
            self.proxy.close()


def main():
    seed, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    plan = plans.of(seed)
    print(plan, flush=True)
    run = Run(plan, folder, os.environ["KAFKA_BOOTSTRAP"])
    result = {**dataclasses.asdict(plan), "fired": False, "error": ENDED}
    try:
        counted = run.go()
        result |= {**dataclasses.asdict(counted), "error": None, "recovered": round(run.recovered_after, 2), "bound": plan.bound}
    except Exception as error:
        run.say(traceback.format_exc())
        result["error"] = f"{type(error).__name__}: {error}"
    finally:
        try:
            run.close(keep=result["error"] != ENDED if result["error"] else
                      any(result[what] for what in ("lost", "doubled", "unbalanced")))
        except Exception:
            run.say(f"not cleaned up: {traceback.format_exc()}")
    result |= {"fired": run.fired_at is not None, "took": round(time.monotonic() - run.begun, 1)}
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
