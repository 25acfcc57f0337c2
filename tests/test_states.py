"""Buffers that a module changes become states: which, from where, and what errors say."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import coremltools as ct
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import talaria_nb as tnb
import zoo
from packages import saved
from reference import Run
from talaria_nb.calls import tensors_in
from talaria_nb.convert import eval_twin
from talaria_nb.errors import LoadError
from talaria_nb.frames import COLUMNS
from talaria_nb.quiet import quiet
from talaria_nb.trace import convert_traced

if TYPE_CHECKING:
    from pathlib import Path

HEADS, LENGTH, WIDTH = 2, 16, 32


class CachedAttention(nn.Module):
    """One step of attention, which puts its key and value into a cache at a position."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(HEADS * WIDTH, 3 * HEADS * WIDTH)
        self.register_buffer("keys", torch.zeros(1, HEADS, LENGTH, WIDTH))
        self.register_buffer("values", torch.zeros(1, HEADS, LENGTH, WIDTH))
        self.register_buffer("offset", torch.ones(HEADS * WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.project(x + self.offset).view(1, 1, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4)
        self.keys[:, :, 5:6] = heads[1]
        self.values[:, :, 5:6] = heads[2]
        return functional.scaled_dot_product_attention(heads[0], self.keys, self.values).flatten(1).unsqueeze(1)


class Decoder(nn.Module):
    """Two layers with a cache each."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(CachedAttention(), CachedAttention())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


CACHES = [f"layers.{layer}.{name}" for layer in range(2) for name in ("keys", "values")]
TOKEN = torch.zeros(1, 1, HEADS * WIDTH)


@cache
def decoder() -> tnb.Model:
    return tnb.load(Decoder().eval(), TOKEN, states=CACHES, progress=False)


def test_every_cache_is_a_state_with_its_bytes() -> None:
    model = decoder()
    assert [*model.states["name"]] == [name.replace(".", "_") for name in CACHES]
    assert set(model.states["shape"]) == {"1×2×16×32"}
    assert set(model.states["dtype"]) == {"fp16"}
    assert set(model.states["state_bytes"]) == {2 * HEADS * LENGTH * WIDTH}
    assert model.states.columns.isin([*COLUMNS]).all()
    types = model.ops.set_index("name")["op_type"]
    assert set(types[model.states["read_by"]]) == {"read_state"}
    assert set(types[model.states["written_by"]]) == {"coreml_update_state"}
    assert (types == "scaled_dot_product_attention").sum() == 2


def test_naming_the_states_changes_nothing_but_what_is_refused() -> None:
    by_default = tnb.load(Decoder().eval(), TOKEN, progress=False)
    assert by_default.states.equals(decoder().states)
    described = [ct.StateType(ct.TensorType(shape=(1, HEADS, LENGTH, WIDTH)), name=name) for name in CACHES]
    with quiet(progress=False):
        exported = torch.export.export(Decoder().eval(), (TOKEN,))
    assert tnb.load(exported, states=described, progress=False).states.equals(by_default.states)


def described(**changes: Any) -> list[Any]:
    wrapped = ct.TensorType(**{"shape": (1, HEADS, LENGTH, WIDTH), "dtype": np.float16, **changes})
    return [ct.StateType(wrapped, name=CACHES[0]), *CACHES[1:]]


@pytest.mark.parametrize(
    ("states", "says"),
    [
        (["layers.0.key"], r"Decoder has no buffer 'layers\.0\.key'\. Did you mean 'layers\.0\.keys'\?"),
        ([*CACHES, "layers.0.offset"], r"keeps nothing in its buffer 'layers\.0\.offset' from one run to the next"),
        (CACHES[1:], r"changes its buffer 'layers\.0\.keys' as well, and without a state the change would be lost"),
        (described(shape=(1, HEADS, 8, WIDTH)), r"is given the shape \(1, 2, 8, 32\); its buffer has \(1, 2, 16, 32\)"),
        (described(dtype=np.float32), r"is given as fp32; Core ML keeps states in fp16 only"),
        ([3], r"states= takes names of buffers or ct\.StateType values with a name, not 3"),
    ],
)
def test_states_that_do_not_fit_are_answered_with_what_does(states: list[Any], says: str) -> None:
    with pytest.raises(LoadError, match=says):
        tnb.load(Decoder().eval(), TOKEN, states=states, progress=False)


def test_states_need_ios18() -> None:
    with pytest.raises(LoadError, match=r"changes its buffer 'layers\.0\.keys' as it runs, which needs .* iOS18"):
        tnb.load(Decoder().eval(), TOKEN, states=CACHES, deployment_target="iOS17", progress=False)


def test_a_trace_keeps_the_states_too() -> None:
    module = Decoder().eval()

    def trace(states: list[str] | None, target: str = "iOS18") -> ct.models.MLModel:
        with quiet(progress=False):
            twin = eval_twin(module)
            return convert_traced(twin, (TOKEN + 1,), {}, target, tensors_in, states)[0]

    names = [state.name for state in trace(None)._spec.description.state]
    assert names == [f"module_{name.replace('.', '_')}" for name in CACHES]
    assert not module.layers[0].keys.any()  # a trace runs the module, but on buffers of its own
    with pytest.raises(LoadError, match="would be lost"):
        trace(CACHES[1:])
    with pytest.raises(LoadError, match="iOS18"):
        trace(None, "iOS17")


def test_a_package_with_states_is_explored_compressed_and_verified(tmp_path: Path) -> None:
    path = tmp_path / "decoder.mlpackage"
    decoder().mlmodel.save(str(path))
    model = tnb.load(path, progress=False)
    unnamed = "written_by"  # packages do not keep the names of ops without outputs
    assert model.states.drop(columns=unnamed).equals(decoder().states.drop(columns=unnamed))
    plan = tnb.Plan(model).set("*", tnb.Palettize(4))
    small = plan.compress(progress=False)
    assert plan.verify(small)["match"].all()
    small.save(str(tmp_path / "small.mlpackage"))
    again = tnb.load(tmp_path / "small.mlpackage", progress=False)
    assert [*again.states["name"]] == [*model.states["name"]]
    assert [*tnb.Plan(again).schemes.values()] == 2 * [tnb.Palettize(4)]
    with pytest.raises(LoadError, match=r"model\.states lists those that a package has"):
        tnb.load(path, states=CACHES, progress=False)


def test_transformers_static_cache_becomes_states() -> None:
    torch.manual_seed(0)
    module = zoo.static_cache_decoder()
    prompt = {"input_ids": torch.tensor([[7, 3, 9]]), "cache_position": torch.arange(3)}
    token = {"input_ids": torch.tensor([[4]]), "cache_position": torch.tensor([3])}
    states: dict[str, Any] = {}
    for given in (prompt, token):
        model = tnb.load(module, given, progress=False)
        assert model.conversion is not None
        assert model.conversion.road == "export"
        assert [*model.states["name"]] == [f"{kind}_cache_{layer}" for layer in range(2) for kind in ("key", "value")]
        assert "cumulative_length_0, cumulative_length_1 are set before they are read" in model.repairs[0]
        assert (model.ops["op_type"] == "scaled_dot_product_attention").sum() == 2
        assert (model.ops["source"] != "").all()
        buffers = dict(module.named_buffers())
        assert bool(buffers["key_cache_0"].any()) == bool(states)  # load leaves the user's own buffers alone
        [output] = Run(model.mlmodel, states)(*given.values())
        with torch.no_grad():
            np.testing.assert_allclose(output, module(**given).numpy(), atol=2e-2, rtol=2e-2)


class Counter(nn.Module):
    """Adds how often it was called, or, where it is given, a number."""

    count: torch.Tensor

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1, dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return x + self.count


def test_a_count_in_float16_would_be_wrong_above_2048() -> None:
    assert [*tnb.load(Counter(torch.float32), torch.zeros(2, 3), progress=False).states["name"]] == ["count"]
    with pytest.raises(LoadError, match=r"buffer 'count' of int64 .* float16, which has no odd numbers above 2,048"):
        tnb.load(Counter(torch.int64), torch.zeros(2, 3), progress=False)


class Ring(nn.Module):
    """Keeps tensors in a list that no module knows of."""

    def __init__(self, *, registered: bool) -> None:
        super().__init__()
        self.slots = [torch.zeros(1, 4), torch.zeros(1, 4)]
        for number, slot in enumerate(self.slots if registered else []):
            self.register_buffer(f"slot_{number}", slot)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for slot in self.slots:
            slot.mul_(0.5).add_(x)
        return self.slots[0] * self.slots[1]


def test_buffers_that_plain_lists_hold_as_well() -> None:
    model = tnb.load(Ring(registered=True), torch.ones(1, 4), progress=False)
    assert [*model.states["name"]] == ["slot_0", "slot_1"]
    with pytest.raises(tnb.TalariaError, match="register"):
        tnb.load(Ring(registered=False), torch.ones(1, 4), progress=False)


class Cached(nn.Module):
    """One step of attention over a cache that stays in the model."""

    cache: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(64, 64)
        self.key = nn.Linear(64, 64)
        self.register_buffer("cache", torch.zeros(1, 16, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.cache[:, 3:4] = self.key(x)
        return torch.softmax(self.query(x) @ self.cache.transpose(1, 2), -1) @ self.cache


@cache
def stateful() -> tnb.Model:
    return tnb.load(Cached().eval(), torch.zeros(1, 1, 64), progress=False)


@pytest.mark.parametrize("saved_first", [False, True])
def test_a_buffer_that_the_module_changes_becomes_a_state(tmp_path: Path, *, saved_first: bool) -> None:
    model = stateful()
    assert [state.name for state in model.mlmodel._spec.description.state] == ["cache"]
    if saved_first:
        model = tnb.load(saved(model.mlmodel, tmp_path), progress=False)
    values = model.program.values
    [row] = [row for row in model.program.inputs if values.name[row] == "cache"]
    assert values.shape[row] == (1, 16, 64)
    ops = model.ops.set_index("op_type")
    cache_bytes = 2 * 16 * 64
    assert ops.loc["read_state", "activation_bytes"] == 2 * cache_bytes  # the state, and what is read
    assert ops.loc["coreml_update_state", "activation_bytes"] == 3 * cache_bytes  # the value, the state, what is read
    assert "cache" not in {name.split("_")[0] for name in model.weights["name"]}
    assert tnb.Plan(model).set("*", tnb.LinearQuantize("int8")).verify(progress=False)["match"].all()


def test_the_users_cache_is_left_as_it_was() -> None:
    module = Cached().eval()
    tnb.load(module, torch.ones(1, 1, 64), progress=False)
    assert not module.cache.any()


def test_a_buffer_that_changes_needs_ios18() -> None:
    """Without states the cache would be lost silently from one prediction to the next."""
    with pytest.raises(LoadError, match=r"Cached changes its buffer 'cache' as it runs, .* iOS18"):
        tnb.load(Cached().eval(), torch.zeros(1, 1, 64), deployment_target="iOS17", progress=False)
