"""Pods that belong together, one folder for each kind that declares them.

`leader_worker_sets`: a leader and its workers, made, placed, updated and restarted as one.
`disaggregated_sets`: roles of them that serve together and are rolled out as one.
`job_sets`: Jobs that are one workload, started in order, restarted and ended together.

What all kinds do alike stands beside the folders: `requests` (with a cache that is late), `ownership`, `names_in_use`,
`late_cache`.
"""
