"""coremltools' conversion without what it leaves behind.

By itself coremltools keeps the package of every model it makes until the interpreter exits, remembers names and values
of a conversion that did not end, and takes 30 bytes an element to see whether a weight fits float16.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil.converter import _reset_conversion_state, mil_convert
from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from coremltools.models import utils as coreml_utils

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coremltools.converters.mil.mil import Block, Operation, Var
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass

_MAX_FLOAT16 = 65504
_ONLY_IN_CONVERSION = {  # and not when a program is written again
    "common::add_fp16_cast",
    "common::add_int16_cast",
    "common::guard_negative_gather_indices",
}
_MAX_CHECKED = 400
"""coremltools looks for values that vanish in float16 in constants with fewer elements only."""


def is_mac() -> bool:
    """Whether Core ML itself is here, which is what runs models."""
    return sys.platform == "darwin"


def convert(source: object, deployment_target: str, **options: object) -> ct.models.MLModel:
    """Convert with coremltools; see `make`.

    Parameters
    ----------
    source
        An exported program or a traced module.
    deployment_target
        "iOS16" or newer.
    options
        As `coremltools.convert` takes them.
    """
    target = ct.target[deployment_target]
    return make(
        lambda package_dir: ct.convert(
            source, minimum_deployment_target=target, package_dir=package_dir, skip_model_load=True, **options
        )
    )


def walk(block: Block) -> Iterator[Operation]:
    """Yield the ops of a block and of the blocks nested in it (`cond`, `while_loop`), in order."""
    for op in block.operations:
        for nested in op.blocks:
            yield from walk(nested)
        yield op


def rewriting() -> ct.PassPipeline:
    """Return the passes for a program that was converted before: it must compute what it did.

    Left out of coremltools' own are those that change dtypes, and the one that makes the indices of gathers positive:
    from iOS17 on it does so once more whenever a program is written, in six ops and some 640 bytes each time.
    """
    pipeline = ct.PassPipeline.DEFAULT
    pipeline.remove_passes(_ONLY_IN_CONVERSION)
    return pipeline


def rewritten(
    mlmodel: ct.models.MLModel, passes: list[AbstractGraphPass], package_dir: str, last: str | None = None
) -> ct.models.MLModel:
    """Parse a model's program, run passes over it and write it again.

    Parameters
    ----------
    mlmodel
        Left alone.
    passes
        What to do to the program.
    package_dir
        Where the new package lies; see `make`.
    last
        A registered pass to run after coremltools' own.
    """
    pipeline = rewriting()
    if last is not None:
        pipeline.append_pass(last)
    program = coreml_utils._apply_graph_pass(mlmodel, passes, return_pymil_prog=True)  # noqa: SLF001
    spec = mlmodel._spec  # noqa: SLF001 - get_spec() copies it
    return mil_convert(
        program,
        convert_to="mlprogram",
        convert_from="milinternal",
        specification_version=spec.specificationVersion,
        compute_units=mlmodel.compute_unit,
        model_description=spec.description,
        skip_model_load=mlmodel.__proxy__ is None,
        package_dir=package_dir,
        main_pipeline=pipeline,
    )


def make(convert: Callable[[str], ct.models.MLModel]) -> ct.models.MLModel:
    """Let coremltools make a model whose package lives as long as the model.

    Parameters
    ----------
    convert
        Makes the model, given a `package_dir`.
    """
    folder = Path(tempfile.mkdtemp(prefix="talaria-nb-"))
    _reset_conversion_state()  # whoever used coremltools before may have failed, and names would go on from there
    try:
        with _forgotten_on_failure(), _lean_casts():
            mlmodel = convert(str(folder / "model.mlpackage"))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(mlmodel, shutil.rmtree, folder, ignore_errors=True)
    return mlmodel


@contextmanager
def _forgotten_on_failure() -> Iterator[None]:
    """Make coremltools forget a conversion that fails or is interrupted; it does so by itself after one that ends."""
    try:
        yield
    except BaseException:
        _reset_conversion_state()
        for each in ("common::add_fp16_cast", "common::add_int16_cast"):
            PASS_REGISTRY[each]._cache_vars.clear()  # noqa: SLF001 - it would hold all weights
        raise


@contextmanager
def _lean_casts() -> Iterator[None]:
    """Let coremltools' cast to float16 look at large constants in place.

    Whether a value overflows it asks of copies of all of them and of their indices, which for the embedding of a
    language model takes gigabytes and longer than all the rest. Where everything is in range, a maximum and a minimum
    tell; the others are left to it.
    """
    overflows, underflows = FP16ComputePrecision.fp16_overflow, FP16ComputePrecision._check_underflow_to_zero  # noqa: SLF001

    def overflow(op: Operation) -> bool:
        given = op.inputs.values()
        each = [var for value in given for var in (value if isinstance(value, (list, tuple)) else (value,))]
        return not all(map(_fits_float16, each)) and bool(overflows(op))

    def underflow(self: FP16ComputePrecision, cast: Var, original: Var) -> None:
        if np.size(original.val) < _MAX_CHECKED:
            underflows(self, cast, original)

    FP16ComputePrecision.fp16_overflow = staticmethod(overflow)
    FP16ComputePrecision._check_underflow_to_zero = underflow  # noqa: SLF001
    try:
        yield
    finally:
        FP16ComputePrecision.fp16_overflow = staticmethod(overflows)
        FP16ComputePrecision._check_underflow_to_zero = underflows  # noqa: SLF001


def _fits_float16(var: Var) -> bool:
    """Whether a variable is no float32 constant, or one of finite values in range."""
    if var.op is None or var.op.op_type != "const" or not var.is_tensor_or_scalar_of(dtype="fp32"):
        return True
    value: Any = np.asarray(var.val)
    return not value.size or bool(value.max() <= _MAX_FLOAT16 and value.min() >= -_MAX_FLOAT16)
