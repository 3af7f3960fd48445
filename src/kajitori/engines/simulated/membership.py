"""The words that the ranks of a simulated group say to each other: lines of text over TCP.

    rank n to rank 0    join VERSION RANK NODES NODE_NAME MODEL     once; NODE_NAME is `-` where it is not known
                        alive                                       every ALIVE_SECONDS
                        leaving                                     this rank was asked to end
    rank 0 to rank n    joined | refused WHY                        the answer to join
                        alive                                       every ALIVE_SECONDS
                        lost WHY                                    the group ends because of another rank
                        end                                         the group ends because rank 0 was asked to

A connection that closes, or is silent for SILENT_SECONDS, means that the other side is lost.
"""

from __future__ import annotations

from typing import NamedTuple

VERSION = "1"
ALIVE_SECONDS = 5.0
SILENT_SECONDS = 30.0
LINE_BYTES = 4096


class Join(NamedTuple):
    """What a rank says of itself."""

    rank: int
    nodes: int
    node_name: str
    model: str


def join_line(join: Join) -> bytes:
    return f"join {VERSION} {join.rank} {join.nodes} {join.node_name or '-'} {join.model}\n".encode()


def parse_join(line: bytes) -> Join | str:
    """The join, or why the line is none."""
    words = line.decode(errors="replace").strip().split(" ", 5)
    if len(words) != 6 or words[0] != "join":
        return "the first line is not a join"
    if words[1] != VERSION:
        return f"version {words[1]} of the group's protocol, this is {VERSION}"
    if not (words[2].isdecimal() and words[3].isdecimal()):
        return "rank and nodes are not numbers"
    return Join(int(words[2]), int(words[3]), "" if words[4] == "-" else words[4], words[5])
