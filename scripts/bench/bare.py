"""The least that HTTP costs in Python: a bare ASGI route under uvicorn, which reads the body and answers the same bytes.

Owns nothing of a service: no framework, no parsing, no model. What the service takes longer than this is its own.
python -m scripts.bench.bare PORT WORKERS ANSWER_BYTES
"""

import os
import sys

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send


def create_app() -> ASGIApp:
    answer = b"0" * int(os.environ["BENCH_ANSWER_BYTES"])
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


if __name__ == "__main__":
    os.environ["BENCH_ANSWER_BYTES"] = sys.argv[3]
    uvicorn.run(
        "scripts.bench.bare:create_app",
        factory=True,
        port=int(sys.argv[1]),
        workers=int(sys.argv[2]),
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
