"""LeaderWorkerSets: groups of pods that are made, placed, updated and restarted as one.

| to find out | read |
|---|---|
| how a look at a set goes | `controller`: the world in `observed`, asks `plan`, has `execution` do the `actions` |
| what becomes of one group | `group_plan`; of those that are named by hashes `hash_plan` and `identity` |
| an update | `rollout` is its arithmetic, `revision_plan`, `revisions` and `revision_history` keep the templates |
| an end, and what follows | `restart` finds who began it, `blame` by whose hand and with which last words; `group_ending` answers: new pods, `in_place`, or left as it is by its `budget`; `history` and `hanging` tell of it |
| when a group serves | `readiness`, `draining` with `engine_watch` |
| how it is placed | `placement`, `gang` and `gang_objects`, `gang_release`; `feasibility`: whether it ever can be |
| what is made | `pods`, `claims`, `services`, `tpu`; `stateful_sets` for sets that ask for those |
| what is said | `status`, `conditions`, `set_events`, `unsupported`; `options`: what users may ask for |
"""
