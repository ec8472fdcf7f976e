"""Sockets: how they are bound, how many the system allows, their addresses, and the bytes that a supervisor sends its workers.

Knows nothing of who serves.
"""

import resource
import socket
import sys

# What a supervisor sends a worker, a byte each: a connection, whose descriptor comes with it; that another worker has an order
# which this one has not carried out; that all have carried out an order, whose number follows, and the end of a line.
CONNECTION, SUMMONS, LEVEL = b"c", b"s", b"l"

BACKLOG = 2048  # connections that the system keeps until they are accepted
FILES = 256  # that a process needs beside its connections
MACOS = 10_240  # files that it allows a process though it says that there is no limit (OPEN_MAX)


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not yet listening; OSError where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def room_for(connections: int) -> int:
    """Raise the limit of open files for so many connections, and return for how many there is room."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + FILES
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    elif sys.platform == "darwin":
        wanted = min(wanted, MACOS)
    if least != resource.RLIM_INFINITY and least < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return min(connections, max(1, wanted - FILES))


def port_of(bound: socket.socket) -> int:
    """The local port of a listener or a connection."""
    port: int = bound.getsockname()[1]
    return port


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
