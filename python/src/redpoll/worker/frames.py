"""Messages on the socket: a little-endian u32, that many bytes of JSON, then ``body`` bytes of Arrow IPC stream."""

import json
import struct

_LENGTH = struct.Struct("<I")


def read(connection):
    """The next message as (header, body), or None when the other side has closed."""
    prefix = _exactly(connection, _LENGTH.size)
    if prefix is None:
        return None
    header = json.loads(bytes(_exactly(connection, _LENGTH.unpack(prefix)[0])))
    return header, _exactly(connection, header.get("body", 0))


def write(connection, header, body=b""):
    text = json.dumps({**header, "body": len(body)}).encode()
    connection.sendall(_LENGTH.pack(len(text)) + text)
    if len(body):
        connection.sendall(body)


def _exactly(connection, size):
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        n = connection.recv_into(view[got:])
        if n == 0:
            return None
        got += n
    return data
