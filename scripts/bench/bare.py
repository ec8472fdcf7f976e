"""The least that HTTP costs in Python: a bare ASGI route under uvicorn, which reads the body and answers as many bytes as its
query says.

It has no framework, no parsing and no model: the time that the service takes beyond this is the service's own cost.
python -m scripts.bench.bare PORT WORKERS
"""

import sys
from functools import cache

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send


def create_app() -> ASGIApp:
    @cache
    def answering(query: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        answer = b"0" * int(query or 0)
        return answer, [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        answer, headers = answering(scope["query_string"])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


if __name__ == "__main__":
    uvicorn.run(
        "scripts.bench.bare:create_app",
        factory=True,
        port=int(sys.argv[1]),
        workers=int(sys.argv[2]),
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
