"""`python -m app.probe`: asks the service on this machine whether it is ready. For a container's health check.

Exits 0 if it is ready, 1 if not, and says why. It asks 127.0.0.1 at RECURVE_PORT, PORT or 8000, over TLS if RECURVE_TLS_CERT is
set; it reads neither flags nor `.env`. It does not verify the certificate, which need not name 127.0.0.1.
Needs nothing but the standard library, so it starts in milliseconds.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException


def main() -> int:
    port = int(os.environ.get("RECURVE_PORT") or os.environ.get("PORT") or 8000)
    tls = bool(os.environ.get("RECURVE_TLS_CERT"))
    connection = _over_tls(port) if tls else HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        status = connection.getresponse().status
        why = "" if status == 200 else f"it answers {status}"
    except (OSError, HTTPException) as error:
        why = str(error) or type(error).__name__
    finally:
        connection.close()
    if why:
        print(f"Not ready, at {'https' if tls else 'http'}://127.0.0.1:{port}/health/ready: {why}", file=sys.stderr)
    return 1 if why else 0


def _over_tls(port: int) -> HTTPConnection:
    import ssl  # only if needed: it takes longer than everything else here
    from http.client import HTTPSConnection

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection("127.0.0.1", port, timeout=2, context=context)


if __name__ == "__main__":
    sys.exit(main())
