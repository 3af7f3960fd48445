"""Whoever reads foreign bytes in Python, one function each: they take any bytes, and raise only where there is a defect.

`SEEDS` are good inputs, from which a fuzzer finds its way. What a reader may raise is caught in it, and nothing else.
"""

from __future__ import annotations

from tests.fuzz import answer_readers, file_readers, wire_readers
from tests.fuzz.registry import READERS, SEEDS

__all__ = ["READERS", "SEEDS", "answer_readers", "file_readers", "wire_readers"]
