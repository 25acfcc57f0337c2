"""Op → module path and lines of source code; constant → torch parameter.

What is known about the ops of a converted model, whichever road it came by; `lineage.py` finds it out.
"""

from __future__ import annotations

import json
import os
import re
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from IPython import get_ipython
from torch.fx.experimental import proxy_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_FRAME = re.compile(r'File "(?P<file>[^\n]+)", line (?P<line>\d+), in (?P<function>[^\n]+)\n\s*(?P<code>[^\n]*)')
_TORCH = str(Path(torch.__file__).parent) + os.sep
_STANDARD_LIBRARY = str(Path(os.__file__).parent) + os.sep
_PACKAGE = re.compile(r".*[/\\](?:site|dist)-packages[/\\]([^/\\]+)")
HANDLE_FILE = "executorch_debug_handle_mapping.json"
"""What `MLModel.save` writes into packages of models that were converted by torch.export with debug handles."""
_MAX_HANDLE_FILE_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of source code on the way to an op; the innermost frame comes last.

    Attributes
    ----------
    file, line, function, code
        As Python's tracebacks show them.
    is_user
        False for torch's own files; True for the user's code and for the libraries around it.
    """

    file: str
    line: int
    function: str
    code: str
    is_user: bool = True


class Stack(tuple[Frame, ...]):
    """Frames, outermost first, that print as Python prints a traceback."""

    __slots__ = ()

    def __repr__(self) -> str:
        lines = [f'File "{each.file}", line {each.line}, in {each.function}\n    {each.code}' for each in self]
        return "\n".join(lines) or "unknown"


@dataclass(frozen=True, slots=True)
class Origin:
    """One piece of code that an op was made from.

    Attributes
    ----------
    module
        Dotted path of the module that ran it.
    operator
        ATen name, such as "conv2d".
    frames
        Outermost first.
    """

    module: str
    operator: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class SourceMap:
    """Where every op came from.

    Attributes
    ----------
    class_names
        Module path → qualified class name, in the order of first use; always holds the root "".
    origins
        Op name → everything that was fused into it, for the ops whose origin is known. The first is the one that the
        op is named after (the conv of a conv with its batch norm), the others follow in the order they ran.
    parameters
        Const name → name of the torch parameter or buffer that it holds, unchanged but for precision and layout.
    folded
        Const name → name of the torch parameter or buffer that it was computed from (a conv's weight times the scale of
        its batch norm; rows of an embedding that do not depend on the input).
    handles
        Name of an op's first output → debug handle, for packages that carry them. They mean something only beside the
        exported program.
    """

    class_names: Mapping[str, str] = field(default_factory=lambda: {"": ""})
    origins: Mapping[str, tuple[Origin, ...]] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    folded: Mapping[str, str] = field(default_factory=dict)
    handles: Mapping[str, int] = field(default_factory=dict)

    def parents(self, op_name: str) -> tuple[Origin, ...]:
        """Return everything that was fused into an op, the leader first; empty where unknown."""
        return self.origins.get(op_name, ())

    def module_path(self, op_name: str) -> str:
        """Return the dotted path of the module that made an op, "" where unknown."""
        parents = self.parents(op_name)
        return parents[0].module if parents else ""

    def class_name(self, op_name: str) -> str:
        """Return the qualified class name of the module that made an op, "" where unknown."""
        return self.class_names.get(self.module_path(op_name), "")

    def frames(self, op_name: str) -> tuple[Frame, ...]:
        """Return the frames of an op, outermost first; empty where unknown."""
        parents = self.parents(op_name)
        return parents[0].frames if parents else ()

    def user_frame(self, op_name: str) -> Frame | None:
        """Return the innermost frame outside of torch itself, or the innermost of all.

        Frames of a library that the model's own code calls (einops) are passed over.
        """
        frames = self.frames(op_name)
        outside = [frame for frame in frames if frame.is_user]
        forward = [frame for frame in outside if frame.function == "forward"]
        own = [frame for frame in outside if forward and _package(frame) == _package(forward[-1])] or outside
        return own[-1] if own else frames[-1] if frames else None


def cell_name(file: str) -> str | None:
    """Name the notebook's cell whose code a file name stands for, as tracebacks do ("In[3]"); None for real files."""
    shell = get_ipython()
    found = None if shell is None else shell.compile.format_code_name(file)
    return None if found is None else str(found[1])


@contextmanager
def whole_stacks() -> Iterator[None]:
    """Make torch.export record every line of the user's code, while it runs inside.

    By itself torch keeps the frames of functions named `forward` only, so that an op made in a helper or a lambda
    points at the call of it. The filter is torch's private method; where it is not as in torch 2.13, nothing is done.
    """
    tracer: Any = getattr(proxy_tensor, "_ModuleStackTracer", None)
    if not hasattr(tracer, "_filter_traceback_frames"):
        yield
        return
    own = vars(tracer).get("_filter_traceback_frames")
    tracer._filter_traceback_frames = lambda _, summary: _model_frames(summary)  # noqa: SLF001
    try:
        yield
    finally:
        if own is None:
            del tracer._filter_traceback_frames  # noqa: SLF001
        else:
            tracer._filter_traceback_frames = own  # noqa: SLF001


def _model_frames(summary: traceback.StackSummary) -> traceback.StackSummary:
    """Leave out what called the model, torch's machinery between its modules, and the standard library."""
    names = [frame.name == "forward" and not is_of_torch(frame.filename) for frame in summary]
    first = names.index(True) if any(names) else 0
    kept = [frame for frame in summary[first:] if is_of_model(frame.filename, frame.name)]
    return traceback.StackSummary.from_list(kept)


def is_of_model(file: str, function: str) -> bool:
    """Whether a frame is a line of the model: the user's, a library's, or a forward of torch's own modules."""
    if is_of_torch(file):
        return function == "forward" and "/fx/" not in file.replace(os.sep, "/")
    standard = file.startswith(_STANDARD_LIBRARY) and not _PACKAGE.match(file)
    return not standard and not file.startswith("<")


def is_of_torch(file: str) -> bool:
    """Whether a file is one of torch's own."""
    return file.startswith(_TORCH)


def _package(frame: Frame) -> str:
    """Return the installed package that a frame belongs to, "" for code that is not installed."""
    match = _PACKAGE.match(frame.file)
    return match[1] if match else ""


def package_source_map(package_path: str | None) -> SourceMap:
    """Read what a package itself says about its ops: their debug handles, where it was saved with any.

    A file that is not as coremltools writes it is ignored: nothing but this depends on it.
    """
    path = Path(package_path or "") / HANDLE_FILE
    if not package_path or not path.is_file() or path.stat().st_size > _MAX_HANDLE_FILE_BYTES:
        return SourceMap()
    handles: dict[str, int] = {}
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))["mapping"]
        for handle, ops in mapping.items():
            for trail in ops:
                if handle.isdecimal():
                    handles[str(trail[-1]["Output"])] = int(handle)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return SourceMap()
    return SourceMap(handles=handles)


def parse_stack(stack_trace: str) -> tuple[Frame, ...]:
    """Read the frames of a traceback as Python writes it."""
    return tuple(
        Frame(
            match["file"],
            int(match["line"]),
            match["function"],
            match["code"].strip(),
            is_user=not is_of_torch(match["file"]),
        )
        for match in _FRAME.finditer(stack_trace)
    )
