"""Sockets: how they are bound, how many the system allows, their addresses, and the messages that a supervisor sends its workers.

Knows nothing of what is served on them.
"""

import resource
import socket
import sys

# What a supervisor sends a worker, one byte each: a connection, with its descriptor; that another worker has carried out an order
# which this one has not; that all workers have carried out an order, followed by its number and the end of a line.
CONNECTION, SUMMONS, LEVEL = b"c", b"s", b"l"

BACKLOG = 2048  # connections that the system keeps until they are accepted
FILES = 256  # open files that a process needs beside its connections
MACOS = 10_240  # open files that macOS allows a process (OPEN_MAX), though it reports no limit


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not yet listening. Raises OSError if the address cannot be bound."""
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
    """Raise the limit of open files for so many connections; returns how many there can be."""
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
