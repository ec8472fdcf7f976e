"""`python -m app.probe`: asks the service on this machine whether it is ready. For a container's health check.

Exits 0 when it is, 1 when it is not. It asks 127.0.0.1 at RECURVE_PORT, PORT or 8000, and sees no flags.
Needs nothing but the standard library, so it starts in milliseconds.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException


def main() -> int:
    port = int(os.environ.get("RECURVE_PORT") or os.environ.get("PORT") or 8000)
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, HTTPException):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
