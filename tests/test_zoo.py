from __future__ import annotations

import pytest

import talaria_nb as tnb
import zoo


@pytest.mark.parametrize("name", zoo.FAST)
def test_a_common_architecture_loads(name: str) -> None:
    module, inputs = zoo.build(name)
    model = tnb.load(module, inputs, progress=False)
    assert len(model.program.weights) > 0
    assert model.conversion is not None
    assert model.conversion.road == "export"


@pytest.mark.models
@pytest.mark.filterwarnings("ignore")
def test_almost_every_architecture_loads(capsys: pytest.CaptureFixture[str]) -> None:
    failures: dict[str, Exception] = {}
    for name in zoo.ARCHITECTURES:
        try:
            module, inputs = zoo.build(name)
            tnb.load(module, inputs, progress=False)
        except Exception as error:  # noqa: BLE001 - every failure counts, whatever it is
            failures[name] = error
    loaded = len(zoo.ARCHITECTURES) - len(failures)
    with capsys.disabled():
        print(f"\n{loaded} of {len(zoo.ARCHITECTURES)} architectures load ({loaded / len(zoo.ARCHITECTURES):.1%})")  # noqa: T201
        for name, error in failures.items():
            print(f"  {name}: {type(error).__name__}: {error}")  # noqa: T201
    assert loaded >= 0.97 * len(zoo.ARCHITECTURES)
