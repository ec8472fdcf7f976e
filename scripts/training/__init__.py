"""One word of a training run per file: config, data, cell, model, fit, checkpoint, graph, verify, publish."""

from importlib.util import find_spec

if find_spec("torch") is None or find_spec("onnx") is None:
    raise SystemExit("Training needs PyTorch and more: run `make install-train`, then use .venv/bin/python.")
