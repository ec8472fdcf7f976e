"""`python -m app.probe`: asks the service on this machine whether it is ready. For a container's health check.

Exits 0 when it is, 1 when it is not. It asks 127.0.0.1 at RECURVE_PORT, PORT or 8000, over TLS where RECURVE_TLS_CERT is set,
and sees no flags. Whose the certificate is does not matter: the service is asked by its address.
Needs nothing but the standard library, so it starts in milliseconds.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException


def main() -> int:
    port = int(os.environ.get("RECURVE_PORT") or os.environ.get("PORT") or 8000)
    connection = _over_tls(port) if os.environ.get("RECURVE_TLS_CERT") else HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, HTTPException):
        return 1
    finally:
        connection.close()


def _over_tls(port: int) -> HTTPConnection:
    import ssl  # takes longer than all else here
    from http.client import HTTPSConnection

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection("127.0.0.1", port, timeout=2, context=context)


if __name__ == "__main__":
    sys.exit(main())
