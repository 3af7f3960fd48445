"""A number of groups, or a share of them."""

from __future__ import annotations


def resolve(value: int | str, total: int, *, up: bool) -> int:
    """Groups: a number as it is, a percentage of the total rounded up or down. 0 for what is neither."""
    if isinstance(value, int):
        return max(0, value)
    share = value.removesuffix("%")
    if not share.isdecimal():
        return 0
    return -(-total * int(share) // 100) if up else total * int(share) // 100
