"""A Request that enhances a picture that is there, and paints none."""

from __future__ import annotations

from ..wire import ControlMaps, GenerationResult
from .enhancing import Enhancer, plan_of_networks
from .finished import finished
from .forecast import Forecast
from .job import Job
from .keeping import EnhanceOrder, Kept
from .machine import prepare_libraries
from .model_keeper import ModelKeeper, fingerprint
from .passes import Pass
from .stage_times import Loaded, RunClass


def enhanced_picture(
    order: EnhanceOrder, maps: ControlMaps, device_name: str, kept: Kept, keeper: ModelKeeper, job: Job
) -> GenerationResult:
    """Its Result, made now or kept from before. device_name: "auto" or a torch device's. Raises `FailureError`."""
    maps.check(order.request.width, order.request.height)
    result = kept.look_up(kept.key(order), job)
    if result is None:
        result = _made(order, maps, device_name, kept, keeper, job)
    kept.keep_maps(order, maps)
    return result


def _made(
    order: EnhanceOrder, maps: ControlMaps, device_name: str, kept: Kept, keeper: ModelKeeper, job: Job
) -> GenerationResult:
    assert maps.picture is not None  # `check_source`
    # Without a model: what takes the time are the networks.
    names = "+".join(sorted(path.stem for path in order.networks.values())) or "finish"
    run, passes, loaded = RunClass.of(order.request, names, device_name), [Pass(order.request)], Loaded(False, True, 0)
    job.forecast = Forecast(kept.times.expected(run, passes, loaded))
    with job.stage("loading"):
        prepare_libraries()
        from ..flux.memory import reset_peak

        files_before = fingerprint(order.files())
        device = keeper.device
        reset_peak(device)
    plan = {**order.plan, **plan_of_networks(order.networks)}
    pixels = Enhancer(device, keeper).enhanced(maps.picture, order, job, maps.reference)
    plan |= {"note": job.note} if job.note else {}
    result, found = finished(order, pixels, plan, device, kept, job)
    kept.times.learn(run, passes, loaded, job.timings, job.step_unit)
    if fingerprint(order.files()) == files_before:
        kept.keep(order, result, found)
    return result
