"""Pods that belong together, one folder for each kind that declares them.

`leader_worker_sets`: a leader and its workers, made, placed, updated and restarted as one.
"""
