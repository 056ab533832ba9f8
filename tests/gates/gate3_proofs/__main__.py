"""Runs the proofs of gate 3, or those that are named, and closes with `N passed, N failed`."""

import sys
import tempfile
import time
import traceback
from pathlib import Path

import brokers
import folders
import framings
import refusals
import store
import values
from gate import Gate

PROOFS = {
    proof.__name__: proof
    for module in (values, folders, refusals, store, brokers, framings)
    for proof in module.PROOFS
}


def main():
    unknown = [name for name in sys.argv[1:] if name not in PROOFS]
    if unknown:
        sys.exit(f"there is no proof {', '.join(unknown)}; there is: {', '.join(PROOFS)}")
    gate = Gate()
    for name in sys.argv[1:] or PROOFS:
        print(f"{name}: {PROOFS[name].__doc__.splitlines()[0]}", flush=True)
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"gate3-{name}-") as folder:
            try:
                PROOFS[name](gate, Path(folder))
            except Exception:
                gate.check("it came to its end", False, traceback.format_exc())
        print(f"  {time.monotonic() - begun:.1f} s", flush=True)
    print(f"{gate.passed} passed, {gate.failed} failed" + (f", {gate.skipped} skipped" if gate.skipped else ""))
    sys.exit(gate.failed > 0)


main()
