"""No test waits by sleeping for something to have happened: it asks for that, again and again, until a deadline.

A test that sleeps and hopes fails on a busy machine and wastes time on an idle one. Unit tests stop the clock
(`start_paused`), the simulated coordinator has one of its own; tests of processes ask with a deadline. So every function of a
test that sleeps is named here, with what it sleeps for. One that is new, and one that is gone, fails this test.
"""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]

ASKS = "asks again and again until a deadline"
PACE = "the pace at which a source gets its alerts; nothing is expected of the pause"
FAULT = "how long a fault lasts, or when it comes: that is what the run is about"
WORK = "work that takes its time, so that processes can be struck in the middle of it"
ALLOWED = {
    ("cli/tests/engine/cluster.rs", "until"): ASKS,
    ("cli/tests/engine/splits.rs", "take"): WORK,
    ("connectors/src/kafka/tests.rs", "settled_values"): ASKS,
    ("connectors/src/kafka/tests/changes.rs", "delete"): ASKS,
    ("udfs/src/host/tests.rs", "until"): ASKS,
    ("tests/chaos/fifty_kills", "once"): FAULT,
    ("tests/chaos/one.py", "outlast"): FAULT,
    ("tests/e2e/test_fault_proxy.py", "test_half_a_request_and_half_an_answer"): ASKS,
    ("tests/fixtures/misbehaving/hangs/hangs.py", "hangs"): FAULT,
    ("tests/fixtures/modules/patient/patient.py", "patient"): WORK,
    ("tests/gates/gate2", "busy_workers"): ASKS,
    ("tests/gates/gate3_proofs/folders.py", "watched"): PACE,
    ("tests/gates/lib.py", "wait_for"): ASKS,
    ("tests/gates/life", "work"): PACE,
    ("tests/services/fault_proxy.py", "pass_requests"): FAULT,
    ("tests/services/fault_proxy.py", "pump"): FAULT,
    ("tests/services/fault_proxy.py", "standing"): FAULT,
}

# Not a method of another clock (`sim.sleep`), nor the definition of one.
IN_RUST = re.compile(r"(?<![\w.])(?<!fn )(?:sleep|sleep_until|park_timeout)\(")
IN_PYTHON = re.compile(r"\b(?:time|asyncio)\.sleep\(")
FUNCTION = {"rust": re.compile(r"\bfn (\w+)"), "python": re.compile(r"^\s*(?:async )?def (\w+)")}


def sleepers(text, language):
    """Names of the functions whose lines sleep: the innermost function around each, by indentation."""
    sleeps = IN_RUST if language == "rust" else IN_PYTHON
    found, functions = [], []
    for line in text.splitlines():
        code = line.split("//")[0] if language == "rust" else line
        indent = len(code) - len(code.lstrip())
        while code.strip(") {\n\r\t}") and functions and functions[-1][0] >= indent:
            functions.pop()
        if named := FUNCTION[language].search(code):
            functions.append((indent, named.group(1)))
        if sleeps.search(code):
            found.append(functions[-1][1] if functions else "<file>")
    return found


def part_of_tests(text, path):
    """The part of a Rust file that is a test."""
    if path.name == "tests.rs" or "tests" in path.parts:
        return text
    return text.partition("#[cfg(test)]\nmod tests {")[2]


def rust():
    for path in sorted(ROOT.glob("*/**/*.rs")):
        inside = path.relative_to(ROOT)
        if inside.parts[0] not in ("target", "benches", "fuzz"):
            yield inside, part_of_tests(path.read_text(), inside)


def python():
    for path in sorted(path for folder in ("tests", "python/tests") for path in (ROOT / folder).rglob("*")):
        if path.is_file() and (path.suffix == ".py" or not path.suffix):
            text = path.read_bytes()[:2_000_000].decode(errors="replace")
            if path.suffix == ".py" or text.startswith("#!/usr/bin/env python"):
                yield path.relative_to(ROOT), text


def test_whoever_sleeps_in_a_test_is_named_with_the_reason():
    found = {(str(path), name) for path, text in rust() for name in sleepers(text, "rust")}
    found |= {(str(path), name) for path, text in python() for name in sleepers(text, "python")}
    found -= {(str(pathlib.Path(__file__).relative_to(ROOT)), name) for _, name in found}
    assert found - set(ALLOWED) == set(), "ask for a condition with a deadline, or stop the clock"
    assert set(ALLOWED) - found == set(), "these sleep no more: take them out of the list"


def test_a_sleep_is_found_with_its_function():
    text = "fn a() {\n    sim.sleep(x);\n}\nasync fn b() {\n    // sleep(1)\n    tokio::time::sleep(x).await;\n}\nfn sleep(x) {}\n"
    assert sleepers(text, "rust") == ["b"]
    assert sleepers("def a():\n    time.sleep(1)\n\ndef b():\n    wait_for(1)\n", "python") == ["a"]
    assert part_of_tests("fn a() { sleep(1) }\n#[cfg(test)]\nmod tests {\nfn b() {}\n", pathlib.Path("core/src/log.rs")).strip() == "fn b() {}"
