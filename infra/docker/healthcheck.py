"""Whether a service in this container takes requests: exit status 0 when `/readyz` returns 200.

    python -I -S healthcheck.py [PORT [PATH]]

Run every few seconds in every container, so it imports next to nothing and is not part of any package. The port is that
of `QUARRY_PORT` unless one is given.
"""

import os
import socket
import sys


def main() -> int:
    port = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("QUARRY_PORT", "8000"))
    path = sys.argv[2] if len(sys.argv) > 2 else "/readyz"
    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=4) as connection:
            connection.sendall(request.encode("ascii"))
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    # What is wrong, for `docker inspect`.
    sys.stdout.write(answer.partition(b"\r\n\r\n")[2].decode("utf-8", errors="replace")[:1000])
    return 0 if answer.split(b" ", 2)[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main())
