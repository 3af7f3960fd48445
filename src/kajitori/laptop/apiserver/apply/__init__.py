"""Field ownership: server-side apply, and the tracking of who wrote what by other means.

An object, what a manager applies (or the object that it wrote) and a schema go in; a new object, or its new
`metadata.managedFields`, comes out. Everything is pure and shares what stays with the old object.

    field_sets     sets of fields in the form that managedFields stores, and their algebra
    owned          from a value to the set of its fields
    merging        live + applied
    removal        what a manager gave up and nobody else owns goes
    comparison     what changed between two objects
    entries        the managedFields list
    server_side    the apply itself; tracking: all other writes
    scales         what a Scale has of its object's entries
"""

from kajitori.laptop.apiserver.apply.entries import same_but_for_times
from kajitori.laptop.apiserver.apply.scales import entries_of_object, entries_of_scale
from kajitori.laptop.apiserver.apply.server_side import ApplyConflict, InvalidApply, server_side_apply
from kajitori.laptop.apiserver.apply.tracking import track_update

__all__ = [
    "ApplyConflict",
    "InvalidApply",
    "entries_of_object",
    "entries_of_scale",
    "same_but_for_times",
    "server_side_apply",
    "track_update",
]
