"""Export a run to the model repository, where the service finds it.

    python -m scripts.export runs/gyro-denoiser-20260101-120000
    python -m scripts.export runs/mpu --model-dir /srv/models --name gyro-mpu

Writes <model-dir>/<name>/<next version>/: model.onnx, manifest.json, golden.npz, and model.cuda.onnx if the cell needs another
graph for CUDA. A version is written whole or not at all, and only if its graphs equal the equations, whatever the batch and
however a sequence is split, and if every node of the graph for CUDA is known to run there.
Exits 0 when published, 1 when a check failed or the repository cannot be written (nothing is published), 2 on wrong use, 130 when
it was stopped.
"""

import sys
from dataclasses import replace
from pathlib import Path

from app.engine import Engine
from scripts import command, problems, results
from scripts.training import cuda_graph, publish, verify
from scripts.training.apart import compare
from scripts.training.checkpoint import Checkpoint
from scripts.training.problem import Artifact


def main(argv: list[str] | None = None) -> int:
    parser = command.Parser("scripts.export", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="the folder that scripts.train wrote")
    parser.add_argument("--model-dir", type=Path, default=Path("model"), help="the model repository (model)")
    parser.add_argument("--name", help="the model's name (the run's)")
    results.add_option(parser)
    args = parser.parse_args(argv)
    try:
        checkpoint = problems.checkpoint_of(args.run)
        if args.name:
            checkpoint.config = replace(checkpoint.config, name=args.name)
        artifact = problems.artifact_of(checkpoint)
    except (OSError, ValueError) as error:
        print(f"{args.run} cannot be exported: {error}", file=sys.stderr)
        return 2
    lacks = "has not finished its first epoch" if not checkpoint.history else "has no epoch with a finite validation loss"
    if checkpoint.best is None:
        print(f"{args.run} {lacks}: go on with {command.line('scripts.train', '--resume', args.run)}", file=sys.stderr)
        return 2
    if "scores" not in checkpoint.facts:
        print(f"The run has not ended: it stands at epoch {checkpoint.epoch} of {checkpoint.config.epochs}, and has no test score.")

    try:
        target, checks = _publish(checkpoint, artifact, args.model_dir)
    except KeyboardInterrupt:
        print("\nStopped: nothing was published.", file=sys.stderr)
        return command.STOPPED
    except OSError as error:
        print(f"{args.model_dir} cannot be written: {error.strerror or error}. Nothing was published.", file=sys.stderr)
        return 1
    if target is None:
        failed = sum(not check.holds for check in checks)
        print(f"Nothing was published: {failed} of {len(checks)} checks failed.", file=sys.stderr)
        return 1
    elsewhere = "" if args.model_dir == Path("model") else f" --model-dir {args.model_dir}"
    default = "" if checkpoint.config.name == "gyro-denoiser" else f" --default-model {checkpoint.config.name}"
    told = f' ARGS="{(elsewhere + default).strip()}"' if elsewhere or default else ""
    print(f"Published {target}. Serve it with: make serve{told}")
    results.write(args.json, {"version": str(target), "checks": {check.name: check.worst for check in checks}})
    return 0


def _publish(checkpoint: Checkpoint, artifact: Artifact, model_dir: Path) -> tuple[Path | None, list[verify.Check]]:
    """The folder of the published version, None if a check fails, and the checks. Raises OSError if it cannot be written."""
    with publish.staging(model_dir, checkpoint.config.name) as folder:
        # -- write --------------------------------------------------------------------------------------------------
        artifact.write_graphs(folder)
        golden = artifact.golden()
        golden.save(folder, outputs=artifact.outputs, states=artifact.states)
        spec = artifact.spec("1", folder)

        # -- verify -------------------------------------------------------------------------------------------------
        engine = Engine(spec, folder, device="cpu")
        by_torch = compare(engine, golden)(artifact.by_torch(golden.instances), golden.predictions)
        checks = [verify.Check.by("torch equals the equations in float64", by_torch)]
        checks += verify.verify(engine, golden)
        checks += cuda_graph.verify(spec, folder, golden)
        for check in checks:
            print(check)
        if not all(check.holds for check in checks):
            return None, checks

        # -- publish ------------------------------------------------------------------------------------------------
        return publish.publish(folder, lambda version: artifact.spec(version, folder)), checks


if __name__ == "__main__":
    sys.exit(command.run(main))
