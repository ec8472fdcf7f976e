"""Check an artifact as it will be served: its files, the three equalities and the golden sample, also for its CUDA graph.

    python -m scripts.verify model/gyro-denoiser/1
    python -m scripts.verify model/gyro-denoiser/1 --device cuda

Exits 0 when everything holds, 1 when something does not, 2 on wrong use, 130 when it was stopped.
"""

import sys
from pathlib import Path

from app import manifest
from app.engine import Engine
from app.errors import BadArtifact, ProviderUnavailable
from app.golden import Golden
from scripts import command, results
from scripts.training import cuda_graph
from scripts.training.verify import verify


def main(argv: list[str] | None = None) -> int:
    parser = command.Parser("scripts.verify", __doc__)
    parser.add_argument("artifact", type=Path, metavar="MODEL_DIR/NAME/VERSION", help="the folder of one version")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where it runs (cpu)")
    results.add_option(parser)
    args = parser.parse_args(argv)
    folder = args.artifact.resolve()
    if not (folder / manifest.FILE_NAME).is_file():
        print(f"{args.artifact} holds no manifest; name one version, such as model/gyro-denoiser/1", file=sys.stderr)
        return 2
    try:
        spec = manifest.read(folder)
        engine = Engine(spec, folder, device=args.device)
        golden = Golden.load(folder, spec)
        of_cuda = cuda_graph.verify(spec, folder, golden)
    except (BadArtifact, ProviderUnavailable) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{spec}: files are whole, runs on {engine.provider.in_use}; {len(golden.instances)} golden instances.")
    checks = verify(engine, golden) + of_cuda
    for check in checks:
        print(check)
    found = {check.name: check.worst for check in checks}
    results.write(args.json, {"version": str(spec), "provider": engine.provider.in_use, "checks": found})
    return 0 if all(check.holds for check in checks) else 1


if __name__ == "__main__":
    sys.exit(command.run(main))
