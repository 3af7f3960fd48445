"""Patches as functions: an object and a patch go in, a new object comes out.

Neither input is ever changed, and whatever a patch does not touch is shared with the old object, so that later
stages see by identity (`is`) what stayed. A patch that does not fit raises `StatusError` as the answer to give.
Server-side apply is not here but in `kajitori.laptop.apiserver.apply`: it needs the field managers.
"""

from kajitori.laptop.apiserver.patches.json_patch import apply_json_patch
from kajitori.laptop.apiserver.patches.merge_patch import apply_merge_patch
from kajitori.laptop.apiserver.patches.strategic_merge import apply_strategic_merge_patch

__all__ = ["apply_json_patch", "apply_merge_patch", "apply_strategic_merge_patch"]
