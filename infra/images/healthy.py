"""What a container's health check runs: its service answers, and says that it is alive, at HEALTH_URL.

It runs every few seconds, so nothing is imported that takes time: a request is a line on a socket.
"""

import os
import socket
import sys


def healthy(url: str) -> bool:
    """Whether `http://HOST:PORT/PATH` answers with 200 within four seconds."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    try:
        with socket.create_connection((name, int(port)), timeout=4) as connection:
            connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


if __name__ == "__main__":
    usual = f"http://127.0.0.1:{os.environ.get('THALWEG_HEALTH_PORT', '9100')}/healthz"
    sys.exit(not healthy(os.environ.get("HEALTH_URL", usual)))
