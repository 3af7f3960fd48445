"""Gangs: pods that go all or none, close together, on arrays of all nodes at once.

`table` follows a `ClusterState` in arrays. `request` turns a gang's pods into a `Problem`: shapes with counts, where each
may go, and domains from the closest to the loosest. `placement` solves it, `mixed` where pods of several shapes share
nodes. `plan` puts these together for a gang, `victims` finds who makes way for one, `words` says why one waits.
"""
