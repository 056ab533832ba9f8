"""Modules have no network unless their manifest asks for it: results must not hang on a machine far away at night.

The kernel sees to it where it may: the processes are in a network namespace without any interface. Python's sockets
refuse besides, with an error that names the module and the key.
"""

import ctypes
import os
import socket
import sys

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

# Name of the module that is at work in this process.
caller = "?"


def isolate():
    """Takes the network from this process and all that it starts.

    Returns None, or why the kernel does not allow it; then Python's sockets alone refuse.
    """
    _refuse_sockets()
    if sys.platform != "linux":
        return f"{sys.platform} has no network namespaces"
    user, group = os.geteuid(), os.getegid()
    error = _unshare(CLONE_NEWNET)
    if error:
        # Who is not root becomes it in a user namespace of its own, which may have networks of its own.
        error = _unshare(CLONE_NEWUSER | CLONE_NEWNET)
        if not error:
            _keep_ids(user, group)
    return f"a network namespace is not allowed here: {os.strerror(error)}" if error else None


def _unshare(flags):
    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if libc.unshare(flags) == 0 else ctypes.get_errno()


def _keep_ids(user, group):
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        try:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)
        except OSError:
            pass  # Files are the user's all the same; only names of owners are lost.


def _refuse_sockets():
    first = socket.socket.__init__

    def checked(self, family=-1, *more, **named):
        local = family == socket.AF_UNIX or named.get("fileno") is not None or len(more) == 3
        if not local:
            _refuse()
        first(self, family, *more, **named)

    socket.socket.__init__ = checked
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        setattr(socket, name, _refuse)


def _refuse(*_arguments, **_named):
    raise PermissionError(
        f"module {caller} may not use the network: write `network = true` into its module.toml if it must"
    )
