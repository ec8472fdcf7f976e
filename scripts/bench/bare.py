"""A route that only reads its body and answers with as many bytes as it is told to: what HTTP alone costs here.

python -m scripts.bench.bare PORT WORKERS ANSWER_BYTES
"""

import os
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def create_app() -> Starlette:
    answer = b"0" * int(os.environ["BENCH_ANSWER"])

    async def predict(request: Request) -> Response:
        await request.body()
        return Response(answer, media_type="application/json")

    return Starlette(routes=[Route("/predict", predict, methods=["POST"])])


if __name__ == "__main__":
    os.environ["BENCH_ANSWER"] = sys.argv[3]
    uvicorn.run(
        "scripts.bench.bare:create_app",
        factory=True,
        port=int(sys.argv[1]),
        workers=int(sys.argv[2]),
        log_level="warning",
        access_log=False,
    )
