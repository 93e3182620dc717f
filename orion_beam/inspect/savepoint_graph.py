"""What a savepoint holds of a job's graph: the operators by their ids, and the state that each keeps.

Flink gives the state of an operator to the operator of the same id. Beam makes the id of a read from the read's label,
and that of a group of fused steps from the label of the step before the group. After a step is renamed, Flink may find
no operator for some state, and then it refuses the savepoint.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.portability.api import beam_runner_api_pb2 as runner_api
from apache_beam.transforms.environments import ExternalEnvironment

from orion_beam.config import JobConfig
from orion_beam.pipeline import build_pipeline

__all__ = ["GraphChange", "changes_between", "drawn_graph", "savepoint_graph"]

_READS = {"beam:transform:read:v1", "beam:transform:impulse:v1"}
_PARDO, _FLATTEN = "beam:transform:pardo:v1", "beam:transform:flatten:v1"
_PICKLED = "beam:coder:pickled_python:v1"
_READ = "a read with its offsets"
_STAGE = "steps without state"


@dataclass(frozen=True)
class GraphChange:
    """A difference between the graphs of two jobs.

    Attributes:
        operator: Id of the operator.
        what: The difference.
        breaks: Whether Flink cannot give the state of the older job to the newer one.
    """

    operator: str
    what: str
    breaks: bool

    def __str__(self) -> str:
        """Return a line for people."""
        return f"{self.operator}: {self.what} ({'breaks savepoints' if self.breaks else 'savepoints stay good'})"


def savepoint_graph(pipeline: runner_api.Pipeline) -> dict[str, str]:
    """Return the operators that a savepoint of a job has, and a description of the state of each.

    Args:
        pipeline: The job's pipeline. A read that Java has expanded, and one that is only drawn, give the same.
    """
    parts = pipeline.components
    leaves = [each for each in parts.transforms.values() if not each.subtransforms]
    makers = {made: each for each in leaves for made in each.outputs.values()}
    found: dict[str, str] = {}
    for step in leaves:
        if step.spec.urn in _READS:
            found[step.unique_name] = _READ
        if step.spec.urn != _PARDO:
            continue
        payload = runner_api.ParDoPayload.FromString(step.spec.payload)
        states = list(_states(payload, parts))
        ((tag, before),) = [(tag, made) for tag, made in step.inputs.items() if tag not in payload.side_inputs]
        if states:
            key = _key_coder(parts.pcollections[before].coder_id, parts)
            found[_stage_id(step, before, parts)] = "; ".join([f"by key {key}", *states])
        elif makers[before].spec.urn in (*_READS, _FLATTEN) and _is_first(makers[before], makers):
            found.setdefault(_stage_id(step, before, parts), _STAGE)
    return dict(sorted(found.items()))


def _is_first(maker: runner_api.PTransform, makers: Mapping[str, runner_api.PTransform]) -> bool:
    """Return whether a step hands over only what reads have read."""
    if maker.spec.urn == _FLATTEN:
        return all(_is_first(makers[each], makers) for each in maker.inputs.values())
    return maker.spec.urn in _READS


def _stage_id(step: runner_api.PTransform, before: str, parts: runner_api.Components) -> str:
    # Beam numbers groups with the same input; here no two groups have one.
    return f"{parts.pcollections[before].unique_name}/{parts.environments[step.environment_id].urn}:0"


def _states(payload: runner_api.ParDoPayload, parts: runner_api.Components) -> Iterator[str]:
    for name, state in sorted(payload.state_specs.items()):
        kind = str(state.WhichOneof("spec"))
        spec = getattr(state, kind)
        coder = getattr(spec, "coder_id", "") or getattr(spec, "element_coder_id", "")
        yield f"state {name}: {kind.removesuffix('_spec')} of {_coder(coder, parts)}"
    for name, timer in sorted(payload.timer_family_specs.items()):
        domain = runner_api.TimeDomain.Enum.Name(timer.time_domain).lower()
        yield f"timer {name.removeprefix('ts-')}: {domain}, {_coder(timer.timer_family_coder_id, parts)}"


def _key_coder(coder_id: str, parts: runner_api.Components) -> str:
    pair = parts.coders[coder_id]
    return _coder(pair.component_coder_ids[0] if len(pair.component_coder_ids) == 2 else coder_id, parts)


def _coder(coder_id: str, parts: runner_api.Components) -> str:
    if coder_id not in parts.coders:
        return "no coder"
    coder = parts.coders[coder_id]
    name = coder.spec.urn.removeprefix("beam:coder:")
    if coder.spec.urn == _PICKLED:
        # The payload begins with a byte or two of its length, and the name of the coder's class.
        name = f"{name} {coder.spec.payload.partition(b'$')[0].split(bytes([92]))[-1].decode(errors='ignore').strip()}"
    inner = ", ".join(_coder(each, parts) for each in coder.component_coder_ids)
    return f"{name}({inner})" if inner else name


def drawn_graph(config: JobConfig) -> dict[str, str]:
    """Return the `savepoint_graph` of a job on a cluster with worker pools, without Java and without running it."""
    pipeline = beam.Pipeline()
    # Beam makes this directory at once, and removes it at the end of a run.
    shutil.rmtree(pipeline.local_tempdir)
    build_pipeline(pipeline, config)
    return savepoint_graph(pipeline.to_runner_api(default_environment=ExternalEnvironment("drawn")))


def changes_between(older: Mapping[str, str], newer: Mapping[str, str]) -> list[GraphChange]:
    """Return what differs between two graphs, what breaks savepoints first."""
    changes = [
        GraphChange(name, f"keeps other state: {newer[name]}; it was {state}", breaks=True)
        for name, state in older.items()
        if name in newer and newer[name] != state
    ]
    changes += [
        GraphChange(name, f"is gone, or has another name: nothing takes its state, {state}", breaks=True)
        for name, state in older.items()
        if name not in newer
    ]
    changes += [
        GraphChange(name, f"is new and begins without state: {state}", breaks=False)
        for name, state in newer.items()
        if name not in older
    ]
    return changes
