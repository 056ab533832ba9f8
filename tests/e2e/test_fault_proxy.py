"""The proxy through which other tests break services: each of its actions, seen from both sides."""
import contextlib
import http.client
import http.server
import pathlib
import socket
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "services"))
from fault_proxy import FaultProxy  # noqa: E402

BODY = b"0123456789" * 10_000


class Service(http.server.BaseHTTPRequestHandler):
    """Remembers what it was asked and how much of a body it got."""

    protocol_version = "HTTP/1.1"
    done = []

    def do_GET(self):
        Service.done.append(("GET", self.path, 0))
        self.send_response(200)
        self.send_header("content-length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def do_PUT(self):
        length = int(self.headers["content-length"])
        try:
            got = len(self.rfile.read(length))
        except OSError:
            got = -1
        Service.done.append(("PUT", self.path, got))
        if got == length:
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def service():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "127.0.0.1:%d" % server.server_address[1]
    server.shutdown()


@pytest.fixture
def proxy(service):
    Service.done.clear()
    proxy = FaultProxy(service)
    yield proxy
    proxy.close()


def ask(proxy, method="GET", path="/a", body=None):
    connection = http.client.HTTPConnection(proxy.listen, timeout=10)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__, b""
    finally:
        connection.close()


def put(proxy, path="/a"):
    return ask(proxy, "PUT", path, BODY)[0]


def test_without_rules_everything_passes(proxy):
    assert ask(proxy) == (200, BODY)
    assert put(proxy) == 200
    assert (Service.done, proxy.fired(), proxy.requests()) == ([("GET", "/a", 0), ("PUT", "/a", len(BODY))], 0, 2)


def test_a_rule_acts_on_what_it_matches_after_some_and_so_often(proxy):
    proxy.rules({"id": "r", "method": "PUT", "path": "log/[0-9]+", "action": "status", "status": 500, "skip": 1, "times": 2})
    assert ask(proxy, path="/log/1")[0] == 200
    assert [put(proxy, "/log/1") for _ in range(4)] == [200, 500, 500, 200]
    assert put(proxy, "/other") == 200
    assert (proxy.fired("r"), len(proxy.log())) == (2, 2)


def test_an_error_before_the_service_and_one_after_it(proxy):
    proxy.rules({"action": "status", "times": 1}, {"action": "status-after", "times": 1})
    assert put(proxy) == 503 and Service.done == []
    assert put(proxy) == 503 and Service.done == [("PUT", "/a", len(BODY))]
    assert put(proxy) == 200


def test_a_reset_before_the_service_and_one_after_it(proxy):
    proxy.rules({"action": "reset", "times": 1}, {"action": "reset-after", "times": 1})
    assert put(proxy) == "ConnectionResetError" and Service.done == []
    assert put(proxy) == "ConnectionResetError" and Service.done == [("PUT", "/a", len(BODY))]


def test_half_a_request_and_half_an_answer(proxy):
    proxy.rules({"action": "cut-request", "times": 1})
    assert put(proxy) == "ConnectionResetError"
    end = time.monotonic() + 10
    while not Service.done and time.monotonic() < end:
        time.sleep(0.01)
    [(_, _, got)] = Service.done
    assert got < len(BODY)
    proxy.rules({"action": "cut-answer", "times": 1})
    assert ask(proxy)[0] in ("ConnectionResetError", "IncompleteRead")
    assert ask(proxy) == (200, BODY)


def test_an_answer_comes_late_or_never(proxy):
    proxy.rules({"action": "delay", "seconds": 0.3, "times": 1})
    begun = time.monotonic()
    assert ask(proxy)[0] == 200 and time.monotonic() - begun >= 0.3
    proxy.rules({"id": "hole", "action": "blackhole"})
    waiting = http.client.HTTPConnection(proxy.listen, timeout=0.3)
    waiting.request("GET", "/a")
    with pytest.raises(TimeoutError):
        waiting.getresponse()
    assert proxy.fired("hole") == 1


def test_a_chance_is_the_same_for_the_same_seed(service):
    def statuses():
        proxy = FaultProxy(service, seed=7)
        proxy.rules({"action": "status", "probability": 0.5})
        seen = [ask(proxy)[0] for _ in range(20)]
        proxy.close()
        return seen

    first = statuses()
    assert first == statuses() and {200, 503} == set(first)


def test_a_rule_that_is_wrong_is_refused(proxy):
    with pytest.raises(OSError, match="400"):
        proxy.rules({"action": "explode"})


def test_bytes_of_any_protocol_are_passed_delayed_and_cut():
    echo = socket.create_server(("127.0.0.1", 0))

    def repeat(connection):
        with contextlib.suppress(OSError):
            while piece := connection.recv(100):
                connection.sendall(piece)

    def serve():
        while True:
            threading.Thread(target=repeat, args=(echo.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    proxy = FaultProxy("127.0.0.1:%d" % echo.getsockname()[1], tcp=True)
    host, port = proxy.listen.split(":")

    def connect():
        return socket.create_connection((host, int(port)), 10)

    client = connect()
    client.sendall(b"hello")
    assert client.recv(100) == b"hello"
    proxy.rules({"action": "delay", "seconds": 0.3, "times": 1})
    begun = time.monotonic()
    client.sendall(b"again")
    assert client.recv(100) == b"again" and time.monotonic() - begun >= 0.3
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.sendall(b"more") or client.recv(100)
    proxy.rules({"id": "no", "action": "reset"})
    with pytest.raises(ConnectionResetError):
        refused = connect()
        refused.sendall(b"hello")
        refused.recv(100)
    assert proxy.fired("no") == 1
    proxy.close()
