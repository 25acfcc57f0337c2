"""The chips that have a device file: their products, and whose parameters they borrow.

Products are those of Apple's product and support pages. A chip that lends nothing to itself was not measured.
"""

from __future__ import annotations

from typing import NamedTuple


class Chip(NamedTuple):
    """One device file."""

    name: str
    specs: str
    """Its line in `data/device_specs.csv`."""
    neural_engine: str
    """Chip whose Neural Engine was measured and is of the same or the nearest generation."""
    gpu: str
    cpu: str
    products: tuple[str, ...]

    @property
    def stem(self) -> str:
        """Name of the file, without its ending."""
        return self.specs.split(" (chip")[0].lower().replace(" ", "_").replace("(", "").replace(")", "")


CHIPS = (
    Chip(
        "A12",
        "A12",
        "A14",
        "A13",
        "A13",
        (
            "iPhone XR",
            "iPhone XS",
            "iPhone XS Max",
            "iPad (8th generation)",
            "iPad Air (3rd generation)",
            "iPad mini (5th generation)",
        ),
    ),
    Chip(
        "A13",
        "A13",
        "A14",
        "A13",
        "A13",
        ("iPhone 11", "iPhone 11 Pro", "iPhone 11 Pro Max", "iPhone SE (2nd generation)", "iPad (9th generation)"),
    ),
    Chip(
        "A14",
        "A14",
        "A14",
        "M1",
        "M1",
        (
            "iPhone 12 mini",
            "iPhone 12",
            "iPhone 12 Pro",
            "iPhone 12 Pro Max",
            "iPad (10th generation)",
            "iPad Air (4th generation)",
        ),
    ),
    Chip(
        "A15",
        "A15 (4-core GPU)",
        "A15",
        "M1",
        "M1",
        ("iPhone 13 mini", "iPhone 13", "iPhone SE (3rd generation)"),
    ),
    Chip(
        "A15",
        "A15 (5-core GPU)",
        "A15",
        "M1",
        "M1",
        ("iPhone 13 Pro", "iPhone 13 Pro Max", "iPhone 14", "iPhone 14 Plus", "iPad mini (6th generation)"),
    ),
    Chip("A16", "A16", "A16", "M1", "M1", ("iPhone 14 Pro", "iPhone 14 Pro Max", "iPhone 15", "iPhone 15 Plus")),
    Chip("A17 Pro", "A17 Pro", "A17 Pro", "M1", "M1", ("iPhone 15 Pro", "iPhone 15 Pro Max", "iPad mini (A17 Pro)")),
    Chip("A18", "A18", "A17 Pro", "M1", "M1", ("iPhone 16", "iPhone 16 Plus")),
    Chip("A18 Pro", "A18 Pro", "A17 Pro", "M1", "M1", ("iPhone 16 Pro", "iPhone 16 Pro Max")),
    Chip("A19", "A19", "A17 Pro", "M1", "M1", ("iPhone 17",)),
    Chip("A19 Pro", "A19 Pro", "A17 Pro", "M1", "M1", ("iPhone 17 Pro", "iPhone 17 Pro Max")),
    Chip(
        "M1",
        "M1",
        "A14",
        "M1",
        "M1",
        (
            "MacBook Air (M1)",
            "MacBook Pro 13-inch (M1)",
            "Mac mini (M1)",
            "iMac 24-inch (M1)",
            "iPad Pro (M1)",
            "iPad Air (M1)",
        ),
    ),
    Chip("M1 Pro", "M1 Pro", "A14", "M1", "M1", ("MacBook Pro (M1 Pro)",)),
    Chip("M1 Max", "M1 Max", "A14", "M1 Max", "M1 Max", ("MacBook Pro (M1 Max)", "Mac Studio (M1 Max)")),
    Chip("M1 Ultra", "M1 Ultra", "A14", "M1 Max", "M1 Max", ("Mac Studio (M1 Ultra)",)),
    Chip(
        "M2",
        "M2",
        "A15",
        "M2 Max",
        "M2 Max",
        ("MacBook Air (M2)", "MacBook Pro 13-inch (M2)", "Mac mini (M2)", "iPad Pro (M2)", "iPad Air (M2)"),
    ),
    Chip("M2 Pro", "M2 Pro", "A15", "M2 Max", "M2 Max", ("MacBook Pro (M2 Pro)", "Mac mini (M2 Pro)")),
    Chip("M2 Max", "M2 Max", "A15", "M2 Max", "M2 Max", ("MacBook Pro (M2 Max)", "Mac Studio (M2 Max)")),
    Chip("M2 Ultra", "M2 Ultra", "A15", "M2 Max", "M2 Max", ("Mac Studio (M2 Ultra)", "Mac Pro (M2 Ultra)")),
    Chip(
        "M3",
        "M3",
        "A16",
        "M2 Max",
        "M2 Max",
        ("MacBook Air (M3)", "MacBook Pro (M3)", "iMac 24-inch (M3)", "iPad Air (M3)"),
    ),
    Chip("M3 Pro", "M3 Pro", "A16", "M2 Max", "M2 Max", ("MacBook Pro (M3 Pro)",)),
    Chip("M3 Max", "M3 Max", "A16", "M2 Max", "M2 Max", ("MacBook Pro (M3 Max)",)),
    Chip(
        "M4",
        "M4",
        "A17 Pro",
        "M2 Max",
        "M2 Max",
        ("MacBook Air (M4)", "MacBook Pro (M4)", "Mac mini (M4)", "iMac 24-inch (M4)", "iPad Pro (M4)"),
    ),
    Chip("M4 Pro", "M4 Pro", "A17 Pro", "M2 Max", "M2 Max", ("MacBook Pro (M4 Pro)", "Mac mini (M4 Pro)")),
    Chip("M4 Max", "M4 Max", "A17 Pro", "M2 Max", "M2 Max", ("MacBook Pro (M4 Max)", "Mac Studio (M4 Max)")),
    Chip("M5", "M5", "A17 Pro", "M2 Max", "M2 Max", ("MacBook Pro (M5)", "iPad Pro (M5)")),
    Chip(
        "M5 Pro", "M5 Pro (chip studied in ane-guide as H17s)", "A17 Pro", "M2 Max", "M2 Max", ("MacBook Pro (M5 Pro)",)
    ),
)
"""Oldest first, phones before Macs."""

UNDISCLOSED = {"A19": "A18", "A19 Pro": "A18 Pro", "M5": "M4"}
"""Chips whose Neural Engine has no published rate, and the chip before, whose rate stands in."""

INT8_FROM = frozenset(["A17 Pro", "A18", "A18 Pro", "A19", "A19 Pro", "M4", "M4 Pro", "M4 Max", "M5", "M5 Pro"])
"""Chips whose Neural Engine computes int8 faster than float16 (coremltools' guide, "What's new": "accelerated on NE
for A17 pro/M4 chips"; later chips are taken to have kept it)."""

NO_STREAMING = frozenset(["A12", "A13"])
"""Chips taken to decompress every weight when a model is loaded: decompression on the fly came with iOS17, and the
oldest chip on which anybody measured its effect is A14."""

NO_INT8_STREAMING = frozenset(["A12", "A13", "A14", "M1", "M1 Pro", "M1 Max", "M1 Ultra"])
"""Chips whose Neural Engine is said to stream palettes but not linear int8 weights (`device_specs.csv`, note on M2)."""

DISPATCH_MS = {
    "M1": (0.21, "middle of 0.19 to 0.23 ms"),
    "M4": (0.095, "0.095 ms, direct dispatch"),
    "M5 Pro": (0.11, "0.11 ms"),
}
"""Dispatch to the Neural Engine as `device_specs.csv` notes it, and the words of the note."""
