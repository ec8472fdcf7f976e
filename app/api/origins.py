"""Whether a request comes from a web page of another origin, for which a browser sends it in the name of its user (CSRF).

Decides this by headers that browsers set and other clients do not send. The rules are those of Go's `http.CrossOriginProtection`.
"""

from urllib.parse import urlsplit

HOST = "a proxy in between must pass the Host header on unchanged"  # what to do if the service's own page is refused
SAFE = ("GET", "HEAD", "OPTIONS")  # these change nothing, and another page cannot read the answer
_PORTS = {"http": ":80", "https": ":443"}  # the default ports, which need not be written (RFC 6454, section 4)


def is_foreign(headers: dict[bytes, bytes]) -> bool:
    """Whether the page is foreign: by `Sec-Fetch-Site`, which is sent over TLS and to localhost, else by `Origin` and `Host`."""
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in (b"same-origin", b"none")
    if b"origin" not in headers:
        return False
    try:
        origin = urlsplit(headers[b"origin"].decode("latin-1"))
    except ValueError:  # not a URL at all
        return True
    port = _PORTS.get(origin.scheme, "")
    asked, own = (each.lower().removesuffix(port) for each in (origin.netloc, headers.get(b"host", b"").decode("latin-1")))
    return asked != own
