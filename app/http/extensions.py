"""What connections and the application say to each other beyond ASGI.

Knows nothing of either.
"""

from collections.abc import Callable, Coroutine, MutableMapping
from typing import Any

Header = tuple[bytes, bytes]
Reply = tuple[int, list[Header], bytes]  # status, headers, body

# An extension of ASGI: under this name the scope's extensions hold a set of functions that are called when the connection
# is lost. Waiting for http.disconnect instead takes a task for every request.
ON_DISCONNECT = "recurve.on_disconnect"
# Another: a function that sends a whole answer at once, given the scope and the reply; it returns False if it cannot now.
ANSWER = "recurve.answer"
# An extension of a WebSocket's scope: a function that returns the next message if one has already arrived, else None.
WAITING = "recurve.waiting"
# A message that a WebSocket's application receives when the service stops, after all earlier messages.
STOPPING = "recurve.stopping"

# Beside ASGI: a `Begin` answers a request, given its scope and all of its body, and raises nothing. An `Offer` looks at the head of
# one request; the `Begin` that it returns serves all requests with the same head.
Scope = MutableMapping[str, Any]
Begin = Callable[[Scope, bytes], Coroutine[Any, Any, Reply]]
Offer = Callable[[Scope], Begin | None]
