"""Whether a request comes from a web page of another origin, for which a browser would send it in its visitor's name.

Owns that judgement, from headers that browsers set and other clients do not send. The rules are those of Go's
`http.CrossOriginProtection`.
"""

from urllib.parse import urlsplit

HOST = "a proxy in between must pass the Host header on unchanged"  # what to do when the service's own page is meant
SAFE = ("GET", "HEAD", "OPTIONS")  # what asks so changes nothing, and another page cannot read the answer
_PORTS = {"http": ":80", "https": ":443"}  # that need not be written (RFC 6454, section 4)


def is_foreign(headers: dict[bytes, bytes]) -> bool:
    """Of a request with these headers: by `Sec-Fetch-Site`, which comes over TLS and to localhost, else by `Origin` and `Host`."""
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in (b"same-origin", b"none")
    if b"origin" not in headers:
        return False
    try:
        origin = urlsplit(headers[b"origin"].decode("latin-1"))
    except ValueError:  # it is no address at all
        return True
    port = _PORTS.get(origin.scheme, "")
    asked, own = (each.lower().removesuffix(port) for each in (origin.netloc, headers.get(b"host", b"").decode("latin-1")))
    return asked != own
