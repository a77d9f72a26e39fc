"""Every call of TensorRT that sightwire makes is in the genuine bindings of every version it runs on, as it is made."""

from __future__ import annotations

import functools

import pytest

from tests.support.trt.bindings import ROOT, VERSIONS, api, ask
from tests.support.trt.calls import Found, calls
from tests.support.trt.source import Source

OURS = Source.of(ROOT, "engines/trt/*.py", "engines/backends/tensorrt.py")
ALWAYS = {
    "Builder", "Builder.build_serialized_network", "Builder.create_builder_config", "Builder.create_network",
    "IBuilderConfig.add_optimization_profile", "IBuilderConfig.set_memory_pool_limit", "ICudaEngine.get_tensor_name",
    "IExecutionContext.execute_async_v3", "IExecutionContext.set_input_shape", "IExecutionContext.set_tensor_address",
    "IOptimizationProfile.set_shape", "OnnxParser", "OnnxParser.parse", "ParserError.desc", "Runtime",
    "Runtime.deserialize_cuda_engine", "ILogger.log",
}  # fmt: skip
"""What nobody runs a network without: a search that does not find one of these is blind."""

WEAK = {"profile_sharing", "explicit_batch", "weak_int8", "weak_fp16", "timing_cache"}
TYPED = {"strongly_typed", "progress_monitor"}
FEATURES = {
    "8.6": WEAK,
    "10.3": WEAK | TYPED,
    "10.13": WEAK | TYPED | {"runtime_config"},
    "10.16": WEAK | TYPED | {"runtime_config"},
    "11.4": TYPED | {"runtime_config", "timing_cache"},
    "RTX 1.7": TYPED | {"runtime_config", "targets", "here"},
}
"""As they were read in the bindings by hand."""
EVERYWHERE = {"version_compatible", "hardware_compatible", "workspace", "tf32", "network_flags"}


@functools.cache
def found_in(version: str) -> Found:
    """What our sources do under it."""
    return calls(OURS, api(version))


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """One of them."""
    return str(request.param)


@pytest.fixture(scope="module")
def found(version: str) -> Found:
    """What our sources do under it."""
    return found_in(version)


def test_no_call_is_missing_or_takes_other_arguments(version: str, found: Found) -> None:
    """What stands behind a feature is asked only of the versions that have it."""
    assert not found.problems, f"under TensorRT {version}:\n" + "\n".join(found.problems)


def test_the_calls_that_everything_needs_are_found(found: Found) -> None:
    """So the search sees what our sources do."""
    assert found.used >= ALWAYS


def test_features_are_those_that_the_version_is_known_for(version: str) -> None:
    """What is seen in a namespace is what is in it, and nothing was read as there because of a default."""
    seen = {name for name, feature in ask(version)["features"].items() if feature["true"]}
    assert seen == FEATURES[version] | EVERYWHERE


def test_bindings_are_of_the_version_that_was_meant(version: str) -> None:
    """Each process saw its own wheel and no other that is installed."""
    assert ask(version)["version"].startswith(version.removeprefix("RTX "))


def test_every_function_is_come_to_under_some_version() -> None:
    """Code that no version's features let run would have been read by nobody."""
    reached = set().union(*(found_in(version).reached for version in VERSIONS))
    assert {scope.key for scope in OURS.functions()} == reached
