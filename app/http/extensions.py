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
# Another: a function that sends a whole answer at once, given the scope and the reply; false where that cannot be now.
ANSWER = "recurve.answer"
# Another, of a WebSocket's: a function that gives the next message if one is there already, else None.
WAITING = "recurve.waiting"
# A message that a WebSocket's application receives once the service stops, after all that came before.
STOPPING = "recurve.stopping"

# Beside ASGI: what answers requests as a whole, given a scope and all of its body; it raises nothing. An offer looks at the head of
# one, and what it gives is for all that have the same.
Scope = MutableMapping[str, Any]
Begin = Callable[[Scope, bytes], Coroutine[Any, Any, Reply]]
Offer = Callable[[Scope], Begin | None]
