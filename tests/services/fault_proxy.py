#!/usr/bin/env python3
"""A proxy that misbehaves as told, between Redpoll and a real service.

    fault_proxy.py --to HOST:PORT [--listen HOST:PORT] [--control HOST:PORT] [--tcp] [--rules FILE] [--seed N]

It prints `listen HOST:PORT control HOST:PORT` once it is ready. Without `--tcp` it understands HTTP/1.1 (S3 is signed for the
address that the client names, so requests pass as they are); with it, it passes bytes (Kafka: the broker must advertise the
proxy's address, see KAFKA_ADVERTISED in kafka.sh).

Rules are a JSON list, given by `--rules` or `PUT /rules` of the control port. The first that matches a request acts:

    {"id": "put-lost", "method": "PUT", "path": "_redpoll/.*/log/", "action": "reset-after", "times": 2}

| field         |                                                                                        |
|---------------|----------------------------------------------------------------------------------------|
| `id`          | by which `GET /fired` counts; by default the action                                    |
| `method`      | regular expression for the whole method; by default any. HTTP only                     |
| `path`        | regular expression to be found in path and query; by default any. HTTP only            |
| `skip`        | how many matches pass first; 0                                                         |
| `times`       | how many matches are acted on; by default all                                          |
| `probability` | of acting on a match, by the seed; 1                                                   |
| `seconds`     | of `delay`; 1                                                                          |
| `status`      | of `status` and `status-after`; 503                                                    |

| action         | what the client sees, and what the service                                                              |
|----------------|---------------------------------------------------------------------------------------------------------|
| `status`       | an error; the request is not forwarded                                                                  |
| `status-after` | an error, though the service has done it                                                                |
| `delay`        | the request is held, then forwarded. TCP: each piece in either direction                                |
| `reset`        | RST; not forwarded. TCP: of new connections and, at their next byte, of those that are open             |
| `reset-after`  | RST, though the service has done it                                                                     |
| `cut-request`  | RST; the service got half of the body and then RST                                                      |
| `cut-answer`   | head and half of the body, then RST                                                                     |
| `blackhole`    | no answer for as long as the rule stands; not forwarded                                                 |

Control: `PUT /rules` (a list; counts begin anew), `GET /fired` (counts by id), `GET /requests` (how many passed by), `POST
/reset` (RST to every open connection), `GET /log` (what was acted on, the last 1000).
"""
import argparse
import asyncio
import contextlib
import json
import pathlib
import random
import re
import socket
import struct
import subprocess
import sys
import urllib.request

HEAD_LIMIT = 1 << 20
PIECE = 64 << 10
ACTIONS = ("status", "status-after", "delay", "reset", "reset-after", "cut-request", "cut-answer", "blackhole")
FIELDS = {"id", "method", "path", "action", "skip", "times", "probability", "seconds", "status"}


class Rule:
    def __init__(self, fields):
        unknown = set(fields) - FIELDS
        if unknown or fields.get("action") not in ACTIONS:
            raise ValueError(f"rule {fields}: action is one of {', '.join(ACTIONS)}; unknown fields: {sorted(unknown)}")
        self.action, self.id = fields["action"], fields.get("id", fields["action"])
        self.method, self.path = re.compile(fields.get("method", ".*")), re.compile(fields.get("path", ""))
        self.skip, self.times = fields.get("skip", 0), fields.get("times")
        self.probability, self.seconds = fields.get("probability", 1), fields.get("seconds", 1.0)
        self.status = fields.get("status", 503)
        self.matched = self.fired = 0

    def acts(self, method, path, chance):
        """Whether the rule acts on this request; counts it then."""
        if not (self.method.fullmatch(method) and self.path.search(path)):
            return False
        self.matched += 1
        if self.matched <= self.skip or (self.times is not None and self.fired >= self.times):
            return False
        if self.probability < 1 and chance.random() >= self.probability:
            return False
        self.fired += 1
        return True


class Reset(Exception):
    """The connection is to end with RST."""


class Proxy:
    def __init__(self, to, tcp, seed):
        self.to, self.tcp, self.chance = to, tcp, random.Random(seed)
        self.rules, self.requests, self.log, self.open = [], 0, [], set()

    def set_rules(self, rules):
        self.rules = [Rule(fields) for fields in rules]

    def rule(self, method, path):
        self.requests += 1
        for rule in self.rules:
            if rule.acts(method, path, self.chance):
                self.log = [*self.log[-999:], [rule.id, method, path]]
                return rule
        return None

    def fired(self):
        counts = {}
        for rule in self.rules:
            counts[rule.id] = counts.get(rule.id, 0) + rule.fired
        return counts

    async def serve(self, reader, writer):
        self.open.add(writer)
        upstream = None
        try:
            upstream = await asyncio.open_connection(*self.to)
            self.open.add(upstream[1])
            await (self.pass_bytes if self.tcp else self.pass_requests)((reader, writer), upstream)
        except Reset:
            abort(writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            abort(writer)
        finally:
            for end in (writer, upstream and upstream[1]):
                if end:
                    self.open.discard(end)
                    end.close()

    async def pass_bytes(self, client, upstream):
        rule = self.rule("", "")
        if rule and rule.action == "reset":
            raise Reset
        done, rest = await asyncio.wait(
            [asyncio.ensure_future(self.pump(client[0], upstream[1])), asyncio.ensure_future(self.pump(upstream[0], client[1]))],
            return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        for task in done:
            task.result()

    async def pump(self, reader, writer):
        while piece := await reader.read(PIECE):
            rule = self.rule("", "")
            if rule and rule.action == "delay":
                await asyncio.sleep(rule.seconds)
            elif rule and rule.action == "blackhole":
                await self.standing(rule)
            elif rule:
                raise Reset
            writer.write(piece)
            await writer.drain()

    async def standing(self, rule):
        """Until the rule is gone."""
        while rule in self.rules:
            await asyncio.sleep(0.05)

    async def pass_requests(self, client, upstream):
        while (head := await read_head(client[0])) is not None:
            method, path = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")[:2]
            rule = self.rule(method, path)
            action = rule.action if rule else "pass"
            if b"\r\nexpect: 100-continue" in head.lower():
                client[1].write(b"HTTP/1.1 100 Continue\r\n\r\n")
                head = re.sub(rb"(?i)\r\nexpect: 100-continue", b"", head)
            if action == "reset":
                raise Reset
            if action == "delay":
                await asyncio.sleep(rule.seconds)
            if action == "blackhole":
                await self.standing(rule)
                raise Reset
            if action == "cut-request":
                await cut(head, client[0], upstream[1])
                raise Reset
            body = await read_body(head, client[0])
            if action == "status":
                await refuse(client[1], method, rule.status)
                continue
            upstream[1].write(head + body)
            await upstream[1].drain()
            answer = await read_head(upstream[0])
            if answer is None:
                raise Reset
            body = await read_body(answer, upstream[0], of=method)
            if action == "reset-after":
                raise Reset
            if action == "status-after":
                await refuse(client[1], method, rule.status)
                continue
            client[1].write(answer + (body[: len(body) // 2] if action == "cut-answer" else body))
            await client[1].drain()
            if action == "cut-answer":
                raise Reset
            if b"\r\nconnection: close" in answer.lower():
                return

    def reset_all(self):
        for writer in list(self.open):
            abort(writer)

    async def control(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await read_head(reader)
            body = await read_body(head, reader)
            status, answer = self.answer(*head.split(b"\r\n", 1)[0].decode().split(" ")[:2], body)
            text = json.dumps(answer).encode()
            writer.write(b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                         % (status, len(text), text))
            await writer.drain()
        writer.close()

    def answer(self, method, path, body):
        match (method, path):
            case ("PUT", "/rules"):
                try:
                    self.set_rules(json.loads(body))
                except (ValueError, TypeError, re.error) as error:
                    return 400, {"error": str(error)}
                return 200, len(self.rules)
            case ("GET", "/fired"):
                return 200, self.fired()
            case ("GET", "/requests"):
                return 200, self.requests
            case ("GET", "/log"):
                return 200, self.log
            case ("POST", "/reset"):
                self.reset_all()
                return 200, "reset"
        return 404, {"error": f"{method} {path}: see the head of fault_proxy.py"}


def abort(writer):
    """Ends a connection with RST."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def refuse(writer, method, status):
    text = b"" if method == "HEAD" else b"<Error><Code>Injected</Code><Message>fault_proxy</Message></Error>"
    writer.write(b"HTTP/1.1 %d Injected\r\ncontent-type: application/xml\r\ncontent-length: %d\r\n\r\n%s" % (status, len(text), text))
    await writer.drain()


async def read_head(reader):
    """Up to and with the empty line; None at the end of the connection."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None


def header(head, name):
    found = re.search(rb"(?im)^%s:\s*([^\r]*)" % name, head)
    return found and found.group(1).strip().lower()


async def read_body(head, reader, of=None):
    """The bytes of a body as they stand on the wire. `of` is the method that an answer belongs to."""
    status = re.match(rb"HTTP/1\.[01] (\d+)", head)
    if status and (of == "HEAD" or status.group(1) in (b"204", b"304") or status.group(1).startswith(b"1")):
        return b""
    if header(head, b"transfer-encoding") == b"chunked":
        return b"".join([piece async for piece in chunks(reader)])
    length = header(head, b"content-length")
    if length is not None:
        return await reader.readexactly(int(length))
    # An answer without a length ends with its connection; a request without one has no body.
    return await reader.read() if status else b""


async def chunks(reader):
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        yield line + await reader.readexactly(size + 2)
        if size == 0:
            return


async def cut(head, reader, upstream):
    """Half of the request goes on, then RST."""
    body = await read_body(head, reader)
    upstream.write(head + body[: len(body) // 2])
    await upstream.drain()
    abort(upstream)


def address(text):
    host, _, port = text.rpartition(":")
    return host or "127.0.0.1", int(port)


async def serve(options):
    proxy = Proxy(address(options.to), options.tcp, options.seed)
    if options.rules:
        proxy.set_rules(json.loads(pathlib.Path(options.rules).read_text()))
    listen = await asyncio.start_server(proxy.serve, *address(options.listen), limit=HEAD_LIMIT)
    control = await asyncio.start_server(proxy.control, *address(options.control), limit=HEAD_LIMIT)
    places = ["{}:{}".format(*server.sockets[0].getsockname()[:2]) for server in (listen, control)]
    print(f"listen {places[0]} control {places[1]}", flush=True)
    await asyncio.gather(listen.serve_forever(), control.serve_forever())


class FaultProxy:
    """The proxy as a child of a test."""

    def __init__(self, to, *, tcp=False, listen="127.0.0.1:0", seed=0):
        command = [sys.executable, __file__, "--to", to, "--listen", listen, "--seed", str(seed), *(["--tcp"] if tcp else [])]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.child.stdout.readline().split()
        if len(line) != 4:
            raise RuntimeError(f"the fault proxy to {to} did not start: {line}")
        self.listen, self.url, self._control = line[1], f"http://{line[1]}", f"http://{line[3]}"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def _ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._control + path, data=data, method=method)
        with self._opener.open(request, timeout=10) as answer:
            return json.load(answer)

    def rules(self, *rules):
        """Replaces all rules; none: everything passes."""
        self._ask("PUT", "/rules", list(rules))

    def fired(self, rule=None):
        """How often a rule acted; of all rules together without one."""
        counts = self._ask("GET", "/fired")
        return sum(counts.values()) if rule is None else counts.get(rule, 0)

    def log(self):
        return self._ask("GET", "/log")

    def requests(self):
        return self._ask("GET", "/requests")

    def reset(self):
        """Ends every open connection with RST."""
        self._ask("POST", "/reset")

    def close(self):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", required=True, help="the real service, HOST:PORT")
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--control", default="127.0.0.1:0")
    parser.add_argument("--tcp", action="store_true", help="pass bytes instead of HTTP requests")
    parser.add_argument("--rules", help="a file with the first rules")
    parser.add_argument("--seed", type=int, default=0)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
