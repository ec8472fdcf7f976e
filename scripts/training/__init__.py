"""What every training run has, one word a file: config, problem, stack, fit, checkpoint, scores, recurrent, verify, publish."""

from importlib.util import find_spec

if find_spec("torch") is None or find_spec("onnx") is None:
    raise SystemExit("Training needs PyTorch and more: run `make install-train`, then use .venv/bin/python.")
