"""One adoption, from the file to a version that is ready to be published: inspect, propose, try, check.

Owns the order of these steps, and what a refusal stops. Prints as it goes. Knows nothing of where versions are stored.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.engine import Engine
from app.golden import Golden
from app.manifest import ModelSpec
from scripts.adoption import artifact, inspection, relaxing, report, sample
from scripts.adoption.hypotheses import GRAPH_NAME, Asked, hypotheses
from scripts.adoption.inspection import Graph
from scripts.adoption.probe import Probe, shortened
from scripts.adoption.proposal import propose
from scripts.adoption.questions import by_chance, fit, unnumbered
from scripts.adoption.reading import readings
from scripts.adoption.refusal import Refused, WrongUse
from scripts.adoption.roles import Roles, assign
from scripts.adoption.sample import Sample
from scripts.adoption.wiring import Wiring
from scripts.adoption.wishes import Wishes
from scripts.training import exactness, publish
from scripts.training.apart import compare
from scripts.training.packages import installed
from scripts.training.verify import Check, verify


@dataclass(frozen=True, slots=True)
class Adopted:
    """A version that passed every check: its files in `folder`, and its manifest."""

    folder: Path
    spec: ModelSpec
    checks: list[Check]

    def manifest(self, version: str) -> ModelSpec:
        return ModelSpec.model_validate(self.spec.model_dump() | {"version": version})

    def described(self, description: str, sample_rate: float | None) -> "Adopted":
        """The same version, with what only its owner knows."""
        return replace(self, spec=self.spec.model_copy(update={"description": description, "sample_rate": sample_rate}))


def adopt(path: Path, folder: Path, wishes: Wishes, *, name: str, sample: Path | None, relax: bool) -> Adopted:
    """Adopt the file at `path` into `folder`, and print what is found and why; Refused or WrongUse with the reason.

    sample: a file of typical input. relax: whether to free a batch axis that is fixed at 1.
    """
    # -- inspect ----------------------------------------------------------------------------------------------------
    graph = inspection.read(path)
    print(report.inspected(graph))
    wishes.check(graph)
    artifact.write_graph(graph, folder)
    probe = Probe(folder / GRAPH_NAME)

    # -- propose ----------------------------------------------------------------------------------------------------
    wiring = Wiring.of(graph)
    roles = assign(graph, wishes, wiring)
    if copied := _states_to_answer_with(graph, roles, wishes):
        graph, names = inspection.with_copies(graph, copied)
        wishes = replace(wishes, outputs=names)
        print(f"  out  {', '.join(names)}: added, for what is to be answered with is also a state")
        artifact.write_graph(graph, folder)
        probe = Probe(folder / GRAPH_NAME)
    features = _features(roles, wishes)
    found = readings(roles, len(features), probe)
    likely = hypotheses(Asked(graph, roles, wishes, wiring, name, features), found)
    typical = _typical(sample, features, likely[0].spec.time_steps)
    known = {"given": bool(wishes.states), "backwards": wiring.backwards}
    proposal = propose(likely, folder, typical.steps, found, by_chance=by_chance(graph), **known)
    providers, placement = artifact.providers_of(graph)
    spec = proposal.spec.model_copy(update={"graphs": dict.fromkeys(providers, GRAPH_NAME)})
    print(report.proposed(spec, proposal, roles, placement))

    # -- measure ----------------------------------------------------------------------------------------------------
    with _running():
        engine = Engine(spec, folder, device="cpu")
        golden = artifact.golden_of(graph, engine, typical.steps)
        exact = exactness.measured(engine, golden.instances)
    spec = spec.model_copy(update={"tolerance": exact.tolerance})
    print(report.measured(spec, exact, typical.source))
    fixed = proposal.chosen.reading.batch is not None
    graph, spec, relaxed = _relaxed(graph, spec, folder, typical, golden, fixed=fixed, wanted=relax)
    with _running():
        checks = [*relaxed, *verify(Engine(spec, folder, device="cpu"), golden)]
    for check in checks:
        print(check)
    failed = [check for check in checks if not check.holds]
    if failed:
        raise Refused(f"{len(failed)} of {len(checks)} checks failed.")

    # -- write ------------------------------------------------------------------------------------------------------
    golden.save(folder, outputs=spec.outputs, states=spec.states)
    provenance = _provenance(graph, typical, relaxed=bool(relaxed))
    spec = spec.model_copy(update={"files": publish.checksums(folder), "provenance": provenance})
    return Adopted(folder, spec, checks)


@contextmanager
def _running() -> Iterator[None]:
    """Turn a failure of the graph into Refused: it has been tried with a few short sequences only."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:  # ONNX Runtime raises its own and built-in types
        raise Refused(
            f"The graph ran when it was tried, and fails where it is checked with more and longer sequences: {shortened(error)}. "
            "Export it so that it takes batches and sequences of any size, or one fixed number of steps."
        ) from error


def _states_to_answer_with(graph: Graph, roles: Roles, wishes: Wishes) -> tuple[str, ...]:
    """Outputs that must be both state and answer: some cells return only their next states, and one of these is the answer."""
    floats = [output.name for output in graph.outputs if output.type == "float32"]
    if len(floats) == len(roles.states) == 1:
        return tuple(floats)
    both = {end for _, end in wishes.states} & set(wishes.outputs)
    too_few = len([name for name in floats if name not in wishes.outputs]) < len(roles.states)
    return wishes.outputs if both or too_few else ()


def _features(roles: Roles, wishes: Wishes) -> Sequence[str]:
    """The names of the features; Refused if their number is not known, WrongUse if it does not fit the graph."""
    dims = roles.sequence.dims
    assert dims is not None
    fixed, given = dims[-1], wishes.features
    count = given if isinstance(given, int) else len(given) if given else None
    fit(roles.sequence, roles.states, count)
    if count is None and (asked := unnumbered(roles.sequence)):
        raise Refused(asked)
    if count is not None and isinstance(fixed, int) and count != fixed:
        raise WrongUse(f"--features gives {count}, and {roles.sequence} has {fixed} on its last axis.")
    return given if isinstance(given, tuple) else [f"f{index}" for index in range(count or int(fixed))]


def _typical(path: Path | None, features: Sequence[str], time_steps: int | None) -> Sample:
    steps = max(sample.STEPS, 2 * (time_steps or 0))
    return sample.read(path, len(features), features, time_steps or 1) if path else sample.noise(len(features), steps)


def _relaxed(
    graph: Graph, spec: ModelSpec, folder: Path, typical: Sample, golden: Golden, *, fixed: bool, wanted: bool
) -> tuple[Graph, ModelSpec, list[Check]]:
    """The graph as it is published, its manifest, and with --relax the check that it equals the original."""
    if not fixed:
        if wanted and spec.max_batch_size == 1:
            raise Refused(
                "The batch axis is free already, and a row's answer depends on the rows beside it: --relax cannot mend that."
            )
        return graph, spec, []
    original = Engine(spec, folder, device="cpu")
    try:
        found = relaxing.relax(graph, spec, original, typical.steps, compare(original, golden))
    except Refused as error:
        if wanted:
            raise
        print(f"It is published as it is, one sequence a run. {error}")
        return graph, spec, []
    if not wanted:
        print(
            f"Its batch axis can be freed: {relaxing.ROWS} rows at once equal the original to {found.worst:.2g} of what is "
            "allowed. --relax publishes it so, and sequences run together then."
        )
        return graph, spec, []
    artifact.write_graph(found.graph, folder)
    relaxed = found.spec.model_copy(update={"graphs": spec.graphs})
    return found.graph, relaxed, [Check(f"relaxed ({relaxing.ROWS} rows at once equal the original, one by one)", found.worst)]


def _provenance(graph: Graph, typical: Sample, *, relaxed: bool) -> dict[str, Any]:
    return {
        "source": graph.path.name,
        "source_sha256": graph.sha256,
        "source_external_data": graph.external,
        "producer": graph.producer,
        "ir_version": graph.proto.ir_version,
        "batch_axis_freed": relaxed,
        "golden": "what the graph itself answers on the CPU, instance by instance",
        "sample": typical.source,
        "packages": {name: version for name, version in installed().items() if name != "torch"},
    }
