"""A Kafka of the harness' own whose clients all go through a proxy, for faults of the network to the brokers.

A broker tells its clients an address, so that of the proxy has to be known when it starts: one proxy at a time stands there.
"""
import contextlib
import os
import subprocess

import lib

# The variable that tells a run where its proxy has to listen.
PROXY = "REDPOLL_CHAOS_PROXY"
SCRIPT = lib.REPOSITORY / "tests" / "services" / "kafka.sh"


@contextlib.contextmanager
def behind_a_proxy(folder):
    """(bootstrap address, where a proxy has to listen) while it runs."""
    port, sasl, controller, proxy = (lib.free_port() for _ in range(4))
    env = {**os.environ, "REDPOLL_RUN_DIR": str(folder), "KAFKA_PORT": str(port), "KAFKA_SASL_PORT": str(sasl),
           "KAFKA_CONTROLLER_PORT": str(controller), "KAFKA_ADVERTISED": f"127.0.0.1:{proxy}"}
    try:
        subprocess.run([SCRIPT, "start"], env=env, check=True, capture_output=True)
        yield f"127.0.0.1:{port}", f"127.0.0.1:{proxy}"
    finally:
        subprocess.run([SCRIPT, "reset"], env=env, capture_output=True)
