"""Train a recurrent network on your own time series, or the paper's GRU on a simulated gyroscope.

    python -m scripts.train --data load.csv                                      every column forecast; a few minutes on 2 cores
    python -m scripts.train --data load.csv --targets OT --context 336 --horizon 96 --quantiles 0.1,0.9
    python -m scripts.train --task denoise --data 'runs/*.csv' --features raw --targets reference
    python -m scripts.train --task classify --data gait.parquet --group trial --targets activity
    python -m scripts.train                                                      the gyroscope; about 10 minutes on 2 cores
    python -m scripts.train --part MPU-6050 --name mpu --cell lstm,reset_before
    python -m scripts.train --config runs/NAME-TIME/config.toml --seed 1         the choices of another run, but for the seed
    python -m scripts.train --resume runs/NAME-TIME                              go on where a run was stopped

Writes runs/NAME-TIME/: the checkpoint, the choices, curves, and what the model predicts beside the truth. Ctrl-C stops it; what
is done is saved after every epoch. Then: python -m scripts.export runs/NAME-TIME
Exits 0 when trained, 1 when it failed or diverged, 2 on wrong use, 130 when it was stopped.
"""

import sys
from argparse import Namespace
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path

from torch import cuda, get_num_threads, nn

from scripts import command, config_file, flags, problems, results
from scripts.gyro.config import Config as GyroConfig
from scripts.overview import kept, presence
from scripts.overview.extras import NotInstalled
from scripts.overview.tensorboard import Board
from scripts.series.config import Config as SeriesConfig
from scripts.training import curves, fit, threads
from scripts.training.checkpoint import FILE_NAME, Checkpoint
from scripts.training.problem import Problem

MODULE = "scripts.train"
REMEDY = "Try a lower --learning-rate, a lower --clip, or data without extreme values."


def arguments(argv: list[str] | None) -> Namespace:
    parser = command.Parser(MODULE, __doc__)
    flags.add_options(parser)
    parser.add_argument("--run", type=Path, metavar="DIR", help="where the run is written (runs/NAME-TIME)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="the run to go on with; its choices stand")
    parser.add_argument("--tensorboard", action="store_true", help="write curves for TensorBoard too, while it trains")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="what it trains on (the GPU, if any)")
    results.add_option(parser)
    args = parser.parse_args(argv)
    if args.resume and (args.run or args.config or flags.chosen(args)):
        parser.error("--resume goes on with the choices of its run, where it is; give no others")
    return args


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    if args.device == "cuda" and not cuda.is_available():
        print("There is no GPU that PyTorch can use: train with --device cpu, or see torch.cuda.is_available().", file=sys.stderr)
        return 2
    device = "cuda" if args.device != "cpu" and cuda.is_available() else "cpu"
    with ExitStack() as held:  # the run's lock, until all of it is written: no other process may train it
        # -- begin, or go on --------------------------------------------------------------------------------------
        try:
            run, problem, network, checkpoint = _gone_on_with(args.resume, held) if args.resume else _begun(args, held)
        except KeyboardInterrupt:
            return _stopped(f"before the {'next' if args.resume else 'first'} epoch. Go on with the same line.")
        except (OSError, ValueError) as error:
            print(f"{args.resume} cannot be resumed: {error}" if args.resume else f"python -m {MODULE}: {error}", file=sys.stderr)
            return 2
        _introduce(run, problem, network, checkpoint, device)

        # -- train ------------------------------------------------------------------------------------------------
        again = command.line(MODULE, "--resume", run)
        try:
            board = held.enter_context(Board(run / "tensorboard", after=checkpoint.epoch)) if args.tensorboard else None
            told = board.epoch if board else lambda _: None
            end = fit.fit(network, problem, checkpoint, run, device=device, told=told)
        except KeyboardInterrupt:
            return _stopped(f"after epoch {checkpoint.epoch}. Go on with: {again}")
        except NotInstalled as error:
            print(error, file=sys.stderr)
            return 2
        except OSError as error:
            return _unwritten(run, error, f"What was saved before is whole. Once it can, go on with: {again}")

        # -- tell -------------------------------------------------------------------------------------------------
        try:
            if checkpoint.best is None:
                print(f"Ended: {end.reason}, and no epoch before it is done. {REMEDY}", file=sys.stderr)
                results.write(run / "result.json", {"reason": end.reason, "diverged": True})
                return 1
            _tell(run, problem, network, checkpoint, end=end, device=device, target=args.json)
        except KeyboardInterrupt:
            return _stopped(f"after the last epoch: what is learned is kept, scores and pictures are not. Make them with: {again}")
        except OSError as error:
            return _unwritten(run, error, f"What is learned is kept. Once it can, make scores and pictures with: {again}")
    return int(end.diverged)


def _introduce(run: Path, problem: Problem, network: nn.Module, checkpoint: Checkpoint, device: str) -> None:
    """What is trained, on what, where."""
    config = checkpoint.config
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"Training {config.name} into {run}: {config.layers} x {config.hidden}, {config.cell}, {parameters:,} parameters,")
    for part in ("features", "targets"):
        if part in checkpoint.facts:
            print(f"{part.capitalize()}: {', '.join(' in '.join(filter(None, column)) for column in checkpoint.facts[part])}.")
    print(f"{_learned(problem)}, seed {config.seed}, on {device}", end="")
    count = get_num_threads()
    print(f" with {count} thread{'s' if count > 1 else ''}." if device == "cpu" else f" ({cuda.get_device_name()}).")


def _tell(
    run: Path, problem: Problem, network: nn.Module, checkpoint: Checkpoint, *, end: fit.End, device: str, target: Path | None
) -> None:
    """Tell how good the best epoch is: on the terminal, in pictures, and in files."""
    best = checkpoint.best or {}
    found = ", ".join(f"{name.removeprefix('validation_')} {value:.4g}" for name, value in best.items() if "validation_" in name)
    print(f"Ended: {end.reason}, {checkpoint.seconds:.0f} s. Best epoch {checkpoint.best_epoch}, validation: {found}.")
    network.load_state_dict(checkpoint.best_network)
    scores = problem.scores(network, device)
    print(f"\nOn {scores.data}:\n\n{scores}\n")
    for warning in scores.warnings():
        print(f"Warning: {warning}")
    curves.draw(checkpoint, run / "curves.png")
    pictures = [run / "curves.png", *problem.pictures(network, device, run)]
    checkpoint.facts["scores"] = scores.to_dict()
    checkpoint.save(run)
    result = {"run": str(run), "config": checkpoint.config.to_dict(), "reason": end.reason, "diverged": end.diverged, "best": best}
    result |= {"seconds": checkpoint.seconds, "history": checkpoint.history, **scores.to_dict()}
    results.write(run / "result.json", result)
    results.write(target, result)
    print(f"Pictures: {', '.join(map(str, pictures))}. Next: {command.line('scripts.export', run)}")
    if end.diverged:
        print(f"It diverged, and what came after its best epoch is not used. {REMEDY}", file=sys.stderr)


def _stopped(where: str) -> int:
    print(f"\nStopped {where}", file=sys.stderr)
    return command.STOPPED


def _unwritten(run: Path, error: OSError, remedy: str) -> int:
    if isinstance(error, BrokenPipeError):  # the reader of the output has closed the pipe
        raise error
    print(f"{error.filename or run} cannot be written: {error.strerror or error}. {remedy}", file=sys.stderr)
    return 1


def _begun(args: Namespace, held: ExitStack) -> tuple[Path, Problem, nn.Module, Checkpoint]:
    """A new run; its lock is taken before its other files are written."""
    config = flags.config_of(args)
    run = args.run or Path("runs") / f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}"
    if (run / FILE_NAME).exists():
        raise ValueError(f"{run} holds a run already: name another, or go on with --resume {run}")
    if kept.is_study(run):
        raise ValueError(f"{run} holds a study of scripts.tune: name another folder for the run.")
    held.enter_context(threads.limited(config.threads))
    problem = problems.problem_of(config)
    held.enter_context(presence.held(run))
    network, checkpoint = fit.start(problem)
    try:
        (run / "config.toml").write_text(config_file.text_of(config))
        checkpoint.save(run)  # last: a folder with a checkpoint counts as a run
    except OSError as error:
        with suppress(OSError):  # a folder that holds no run is only in the way
            (run / "config.toml").unlink(missing_ok=True)
            (run / presence.FILE_NAME).unlink()
            run.rmdir()
        raise ValueError(f"{run} cannot be written: {error.strerror or error}. Mend that, or give another --run.") from error
    return run, problem, network, checkpoint


def _gone_on_with(run: Path, held: ExitStack) -> tuple[Path, Problem, nn.Module, Checkpoint]:
    """A stopped run, on the same data. It is locked before it is read, or another process could train it meanwhile."""
    if (run / FILE_NAME).exists():
        held.enter_context(presence.held(run))
    checkpoint = problems.checkpoint_of(run)
    held.enter_context(threads.limited(checkpoint.config.threads))
    problem = problems.problem_of(checkpoint.config)
    if problem.facts.get("digest") != checkpoint.facts.get("digest"):
        raise ValueError("its data have changed since it began. Begin anew, or put the old data back.")
    network = problem.network()
    try:
        network.load_state_dict(checkpoint.network)
    except RuntimeError as error:
        raise ValueError("its network is not one of this version: begin anew.") from error
    return run, problem, network, checkpoint


def _learned(problem: Problem) -> str:
    config = problem.config
    if isinstance(config, SeriesConfig):
        return f"{config.task} on {', '.join(Path(file).name for file in config.data)}"
    assert isinstance(config, GyroConfig)
    return f"on simulated {config.part} recordings at {config.sample_rate:g} Hz"


if __name__ == "__main__":
    sys.exit(command.run(main))
