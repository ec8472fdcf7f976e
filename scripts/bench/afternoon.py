"""The plain service to compare with, as one writes it in an afternoon: FastAPI, pydantic and one session.run per request.

Follows FastAPI's tutorial, with the same model and ONNX Runtime's defaults, and batches only within a request.
Knows nothing of the service: python -m scripts.bench.afternoon VERSION_DIR PORT WORKERS
"""

import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel


class Request(BaseModel):
    instances: list[list[list[float]]]


class Answer(BaseModel):
    predictions: list[list[list[float]]]


def create_app() -> FastAPI:
    session = ort.InferenceSession(Path(os.environ["BENCH_VERSION"]) / "model.onnx", providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[2].shape
    app = FastAPI()

    @app.post("/predict")
    def predict(request: Request) -> Answer:
        lengths = [len(instance) for instance in request.instances]
        input = np.zeros((len(lengths), max(lengths), 6), dtype=np.float32)
        try:
            for row, instance in zip(input, request.instances, strict=True):
                row[: len(instance)] = instance
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        h0 = np.zeros((shape[0], len(lengths), shape[2]), dtype=np.float32)
        feeds = {"input": input, "lengths": np.array(lengths, dtype=np.int32), "h0": h0}
        (output,) = session.run(["output"], feeds)
        return Answer(predictions=[row[:length].tolist() for row, length in zip(output, lengths, strict=True)])

    return app


if __name__ == "__main__":
    os.environ["BENCH_VERSION"] = sys.argv[1]
    uvicorn.run(
        "scripts.bench.afternoon:create_app",
        factory=True,
        port=int(sys.argv[2]),
        workers=int(sys.argv[3]),
        log_level="warning",
        access_log=False,
    )
