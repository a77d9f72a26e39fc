"""The search for calls of TensorRT finds mistakes, and finds none where there are none: small sources of each kind."""

from __future__ import annotations

import textwrap

import pytest

from tests.support.trt.bindings import ROOT, VERSIONS, api
from tests.support.trt.calls import Found, calls
from tests.support.trt.source import Source

FEATURES = "engines/trt/features.py"


def read(text: str, version: str = "10.13") -> Found:
    """A source of ours, under one version."""
    features = (ROOT / FEATURES).read_text(encoding="utf-8")
    return calls(Source({FEATURES: features, "ours.py": textwrap.dedent(text)}), api(version))


def problems(text: str, version: str = "10.13") -> list[str]:
    """What is wrong with it, without where."""
    return [problem.partition(" ")[2] for problem in read(text, version).problems]


def test_a_misspelt_method_is_found_with_its_line() -> None:
    """The one mistake that a stand-in hides."""
    source = """
    def run(trt, logger, plan, stream):
        engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
        context = engine.create_execution_context()
        context.execute_asinc_v3(stream)
    """
    assert read(source).problems == ("ours.py:5: IExecutionContext has no execute_asinc_v3",)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("execute_async_v3(stream=1)", "execute_async_v3 takes no stream: stream_handle"),
        ("execute_async_v3()", "execute_async_v3 lacks stream_handle"),
        ("execute_async_v3(1, 2)", "execute_async_v3 takes 1 positional arguments, 2 are given"),
        ("execute_async_v3(1, stream_handle=1)", "execute_async_v3 is given stream_handle twice"),
        ("set_tensor_address('x', engine)", "set_tensor_address wants int, is given ICudaEngine"),
        ("profiler.reset()", None),
    ],
)
def test_arguments_must_fit_the_signature(call: str, problem: str | None) -> None:
    """Names, number, and TensorRT's own types."""
    source = f"""
    def run(trt, logger, plan):
        engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
        context = engine.create_execution_context()
        context.{call}
    """
    assert problems(source) == ([f"IExecutionContext.{problem}"] if problem else [])


def test_one_overload_that_fits_is_enough() -> None:
    """A context is made by a strategy, or by a configuration where there is one."""
    source = """
    def make(trt, logger, plan):
        engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
        engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        engine.create_execution_context(engine.create_runtime_config())
        engine.create_execution_context(trt.Runtime(logger))
    """
    (problem,) = problems(source)
    assert problem.startswith("ICudaEngine.create_execution_context wants ")
    assert problem.endswith("is given Runtime")


def test_objects_are_followed_through_attributes_collections_and_calls() -> None:
    """From where they are made to where they are used, whatever they are called on the way."""
    source = """
    from dataclasses import dataclass

    @dataclass
    class Run:
        first: Any

    class Contexts:
        def __init__(self, runtime: Any, plan, sizes):
            self._whole = self._load(runtime, plan)
            self._runs = {size: Run(self._one(size)) for size in sizes}

        def _load(self, runtime: Any, plan):
            return runtime.deserialize_cuda_engine(plan)

        def _one(self, size):
            return self._whole.create_execution_context()

        def go(self, size, stream):
            for number, it in enumerate(self._runs.values()):
                it.first.execute(stream)

    def open(trt, logger, plan):
        return Contexts(trt.Runtime(logger), plan, [1, 8])
    """
    assert problems(source) == ["IExecutionContext has no execute"]


def test_an_object_that_nothing_is_known_of_is_a_problem() -> None:
    """So that a call cannot hide where values could not be followed."""
    source = """
    def go(context: Any, stream: int):
        context.execute_async_v3(stream)
    """
    assert problems(source) == ["nothing is known of context, whose execute_async_v3 is asked for"]


NEWER = """
def configure(trt, logger, plan, features: Features):
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    {condition}
        engine.create_runtime_config()
"""


@pytest.mark.parametrize(
    "condition",
    [
        "if features.runtime_config:",
        "if not features.explicit_batch or features.runtime_config:",
        "if features.progress_monitor and features.runtime_config and plan:",
        "if hasattr(engine, 'create_runtime_config'):",
        "if getattr(trt, 'IRuntimeConfig', None) is not None:",
        "for config in [engine.create_runtime_config() for _ in plan if features.runtime_config]:",
    ],
)
def test_a_call_behind_a_feature_is_asked_of_versions_that_have_it(condition: str) -> None:
    """However the condition is written."""
    source = NEWER.format(condition=condition)
    if not condition.startswith("for"):
        assert problems(source, "10.3") == []
    assert "ICudaEngine.create_runtime_config" in read(source, "10.13").used


@pytest.mark.parametrize(
    "condition",
    ["if plan:", "if features.node_names:", "if features.runtime_config or plan:", "if not features.targets:"],
)
def test_a_call_of_some_versions_behind_anything_else_is_a_problem(condition: str) -> None:
    """A condition of another kind, or a feature that says nothing of it."""
    assert problems(NEWER.format(condition=condition), "10.3") == ["ICudaEngine has no create_runtime_config"]


def test_what_follows_an_early_return_is_ruled_out_too() -> None:
    """And functions that only ruled out code calls."""
    source = """
    def use(trt, logger, plan, features: Features):
        engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
        if not features.runtime_config:
            return engine.create_execution_context()
        return _configured(engine)

    def _configured(engine: Any):
        config = engine.create_runtime_config()
        return engine.create_execution_context(config)
    """
    assert problems(source, "10.3") == problems(source, "10.13") == []
    assert "ours.py:_configured" not in read(source, "10.3").reached
    assert "ours.py:_configured" in read(source, "10.13").reached


@pytest.mark.parametrize("version", VERSIONS)
def test_flags_may_be_passed_where_a_version_has_them(version: str) -> None:
    """A feature that is None has no call to make."""
    source = """
    def configure(trt, logger, features: Features):
        config = trt.Builder(logger).create_builder_config()
        for flag in (features.weak_int8, features.weak_fp16):
            if flag is not None:
                config.set_flag(flag)
        config.set_flag(features.workspace)
    """
    (problem,) = problems(source, version)
    assert "set_flag wants" in problem
    assert problem.endswith("is given MemoryPoolType")


def test_an_override_that_tensorrt_never_calls_is_a_problem() -> None:
    """A callback of another name or with other arguments is silently not called, or ends the process."""
    source = """
    def monitor(trt):
        class Progress(trt.IProgressMonitor):
            def phase_started(self, name, parent, steps): ...
            def phase_finish(self): ...
            def step_complete(self, name, step):
                return True
        return Progress()
    """
    assert problems(source) == [
        "IProgressMonitor has no phase_started to override",
        "IProgressMonitor.phase_finish is called with 1 arguments, this takes 0",
    ]


def test_properties_are_set_where_they_can_be_with_what_they_take() -> None:
    """Python would take any new attribute on some objects, and TensorRT would not see it."""
    source = """
    def configure(trt, logger, engine_bytes):
        config = trt.Builder(logger).create_builder_config()
        config.builder_optimisation_level = 3
        config.builder_optimization_level = 3
        config.profiling_verbosity = trt.DataType.HALF
        engine = trt.Runtime(logger).deserialize_cuda_engine(engine_bytes)
        engine.num_io_tensors = 2
    """
    wrong = problems(source)
    assert wrong[0] == "IBuilderConfig has no builder_optimisation_level"
    assert "ICudaEngine.num_io_tensors cannot be set" in wrong
    assert any("profiling_verbosity wants" in problem for problem in wrong) or len(wrong) == 2


def test_a_name_that_the_namespace_lacks_is_a_problem() -> None:
    """Enumeration members as well."""
    source = """
    def names(trt):
        return trt.BuilderFlag.INT8, trt.BuilderFlag.INT9, trt.Bilder
    """
    assert problems(source, "10.3") == ["BuilderFlag has no INT9", "trt has no Bilder"]
    assert problems(source, "11.4") == ["BuilderFlag has no INT8", "BuilderFlag has no INT9", "trt has no Bilder"]
