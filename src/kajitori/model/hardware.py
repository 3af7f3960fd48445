"""The hardware catalogue: what a GPU of each known kind can do.

Data in `gpus.json`: dense arithmetic rates, memory, the link to its neighbours (NVLink, or PCIe where there is none)
and the network. Rates are those that vendors publish; what an engine reaches of them is the performance model's matter.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from kajitori.base.errors import UsageError


class Gpu(msgspec.Struct, frozen=True):
    """One kind of GPU.

    product: as the label nvidia.com/gpu.product has it. Rates are dense, without sparsity; 0 where a format is missing.
    link_gb_per_second: to a neighbour, one way. link_domain: how many GPUs that link joins at most.
    network_gb_per_second: one GPU's share of the network, one way.
    """

    name: str
    product: str
    fp16_tflops: float
    memory_tb_per_second: float
    memory_mib: int
    link_gb_per_second: float
    link_domain: int
    network_gb_per_second: float
    fp8_tflops: float = 0.0
    fp4_tflops: float = 0.0

    @property
    def memory_bytes(self) -> int:
        return self.memory_mib * 2**20

    def flops(self, bytes_per_parameter: float) -> float:
        """Operations per second in the format that weights of this size are multiplied in.

        A GPU without the format computes in the next wider one that it has.
        """
        tflops = self.fp16_tflops
        if bytes_per_parameter <= 1.0 and self.fp8_tflops:
            tflops = self.fp8_tflops
        if bytes_per_parameter <= 0.6 and self.fp4_tflops:
            tflops = self.fp4_tflops
        return tflops * 1e12


@cache
def gpus() -> dict[str, Gpu]:
    """All known kinds, by name."""
    data = Path(__file__).with_name("gpus.json").read_bytes()
    return {gpu.name: gpu for gpu in msgspec.json.decode(data, type=list[Gpu])}


def find_gpu(name: str) -> Gpu:
    """A GPU by its short name or its product label, in any case. Raises UsageError that names the known ones."""
    wanted = name.strip().lower()
    for gpu in gpus().values():
        if wanted in (gpu.name, gpu.product.lower()):
            return gpu
    raise UsageError(f"unknown GPU {name!r}", hint=f"known are {', '.join(gpus())}")
