"""Energy of a prediction: published energy a FLOP and a byte, and the few powers that were measured.

The numbers are those of `devices/*.toml` (`flop_pj`, `byte_pj`, `active_w`). They were measured on Macs from M1 to M5
with the idle power subtracted, mostly by one lab, and phones are taken to be alike: **low confidence**.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.devices import UNITS
from talaria_nb.op_types import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from talaria_nb.devices import Device
    from talaria_nb.work import Work

ENERGY_FACTOR = 2.5
"""An energy is known to this factor each way. The parameters were chosen knowing the few energies that were published
(ane-guide.readthedocs.io, part 3, chapter 10, M2): ViT-B/16 67.9 mJ and ResNet-18 2.6 mJ on the Neural Engine, 714 and
22.3 mJ on the GPU. What is priced here lies within this factor of each (`tests/test_energy.py`), which says that they
agree, not that other models will."""


@dataclass(frozen=True, slots=True, eq=False)
class OpEnergy:
    """Energy of every op, apart from the weights that it brings in: `work_mj + byte_mj · bytes + active_w · ms`.

    Attributes
    ----------
    work_mj
        Per op, its FLOPs and the activations that it moves, in millijoules. float64, shape (ops,).
    byte_mj
        Per op, of one byte of weights. float64.
    active_w
        Per op, what its unit draws while it runs: millijoules a millisecond. float64.
    """

    work_mj: NDArray[np.float64]
    byte_mj: NDArray[np.float64]
    active_w: NDArray[np.float64]


def op_energy(work: Work, device: Device, units: NDArray[np.integer]) -> OpEnergy:
    """Price the energy of every op on its unit.

    Parameters
    ----------
    work
        Of every op.
    device
        Which device.
    units
        Index into `UNITS` of every op, as in `placement.Placement`.
    """
    known = [device.units.get(name) for name in UNITS]
    flop, byte, watts = (
        np.array([getattr(unit, name) if unit else 0.0 for unit in known])[units]
        for name in ("flop_pj", "byte_pj", "active_w")
    )
    priced = work.kind < Kind.FREE
    joules = np.where(priced, work.flops * flop + work.traffic_bytes * byte, 0.0)
    return OpEnergy(joules * _PJ_TO_MJ, byte * _PJ_TO_MJ, watts)


_PJ_TO_MJ = 1e-9
