"""Train the paper's GRU to clean a gyroscope's signal.

    python -m scripts.train                                  about 5 minutes on 2 cores; writes runs/gyro-denoiser-.../
    python -m scripts.train --part MPU-6050 --name mpu --seed 1
    python -m scripts.train --cell reset_after --hidden 32   torch.nn.GRU's cell, smaller
    python -m scripts.train --resume runs/gyro-denoiser-...  go on where a run was stopped

Ctrl-C stops it; what is done is saved after every epoch. Then: python -m scripts.export runs/...
Exits 0 when trained, 1 when it failed or was stopped, 2 on wrong use.
"""

import os
import shutil
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from scripts import results
from scripts.training import curves, fit
from scripts.training.checkpoint import Checkpoint
from scripts.training.config import Config
from scripts.training.data import Gyro
from scripts.training.model import Denoiser
from scripts.training.sensor import PARTS

PYTHON = "python" if shutil.which("python") == sys.executable else os.path.relpath(sys.executable)


def arguments(argv: list[str] | None) -> Namespace:
    default = Config()
    parser = ArgumentParser(prog="python -m scripts.train", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--name", help=f"the model's name ({default.name})")
    parser.add_argument("--seed", type=int, help=f"same seed, same weights ({default.seed})")
    parser.add_argument("--part", choices=PARTS, help=f"the sensor whose noise is simulated ({default.part})")
    parser.add_argument("--jitter", type=float, help=f"seconds, 1 sigma of each sample's time ({default.jitter:g})")
    parser.add_argument("--recordings", type=int, help=f"simulated recordings an epoch ({default.recordings})")
    parser.add_argument("--recording-seconds", type=float, help=f"length of each ({default.recording_seconds:g})")
    parser.add_argument("--cell", choices=("reset_before", "reset_after"), help=f"the paper's, or torch.nn.GRU's ({default.cell})")
    parser.add_argument("--layers", type=int, help=f"GRU layers ({default.layers})")
    parser.add_argument("--hidden", type=int, help=f"units in each ({default.hidden})")
    parser.add_argument("--no-bias", dest="bias", action="store_const", const=False, help="no bias in cell and head")
    parser.add_argument("--epochs", type=int, help=f"at most ({default.epochs})")
    parser.add_argument(
        "--patience", type=int, help=f"epochs without a better validation loss before it stops ({default.patience})"
    )
    parser.add_argument("--learning-rate", type=float, help=f"at its highest ({default.learning_rate:g})")
    parser.add_argument("--run", type=Path, metavar="DIR", help="where the run is written (runs/NAME-TIME)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="the run to go on with; its choices stand")
    results.add_option(parser)
    args = parser.parse_args(argv)
    if args.resume and (args.run or any(value is not None for value in _chosen(args).values())):
        parser.error("--resume goes on with the choices of its run, where it is; give no others")
    return args


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    # -- begin, or go on ------------------------------------------------------------------------------------------
    if args.resume:
        try:
            checkpoint = Checkpoint.load(args.resume)
        except (OSError, ValueError) as error:
            print(f"{args.resume} cannot be resumed: {error}", file=sys.stderr)
            return 2
        run, config = args.resume, checkpoint.config
        gyro, network = Gyro(config), Denoiser(config)
        network.load_state_dict(checkpoint.network)
    else:
        try:
            config = Config(**{name: value for name, value in _chosen(args).items() if value is not None})
        except ValueError as error:
            print(f"python -m scripts.train: {error}", file=sys.stderr)
            return 2
        run = args.run or Path("runs") / f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}"
        if (run / "checkpoint.pt").exists():
            print(f"{run} holds a run already: name another, or go on with --resume {run}", file=sys.stderr)
            return 2
        run.mkdir(parents=True, exist_ok=True)
        gyro = Gyro(config)
        network, checkpoint = fit.start(config, gyro)
        checkpoint.save(run)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"Training {config.name} into {run}: {config.layers} x {config.hidden} GRU, {config.cell}, {parameters:,} parameters,")
    print(f"on simulated {config.part} recordings at {config.sample_rate:g} Hz, seed {config.seed}, on {device}", end="")
    print(f" with {torch.get_num_threads()} threads." if device == "cpu" else f" ({torch.cuda.get_device_name()}).")

    # -- train ----------------------------------------------------------------------------------------------------
    try:
        reason = fit.fit(network, gyro, checkpoint, run, device=device)
    except KeyboardInterrupt:
        print(f"\nStopped after epoch {checkpoint.epoch}. Go on with: {PYTHON} -m scripts.train --resume {run}", file=sys.stderr)
        return 1

    # -- tell -----------------------------------------------------------------------------------------------------
    best = checkpoint.best
    if best is None:
        print(f"Ended: {reason}. No epoch gave a finite validation loss: try a lower --learning-rate.", file=sys.stderr)
        return 1
    curves.draw(checkpoint, run / "curves.png")
    print(f"Ended: {reason}. Best epoch {checkpoint.best_epoch}: validation RMSE {best['validation_rmse']:.4f} deg/s.")
    print(f"Curves: {run / 'curves.png'}. Next: {PYTHON} -m scripts.export {run}")
    result = {"run": str(run), "config": config.to_dict(), "reason": reason, "best": best, "history": checkpoint.history}
    results.write(run / "result.json", result)
    results.write(args.json, result)
    return 0


def _chosen(args: Namespace) -> dict[str, Any]:
    """What the command line says of the fields of Config; None where it is silent."""
    return {field.name: getattr(args, field.name, None) for field in fields(Config)}


if __name__ == "__main__":
    sys.exit(main())
