"""LeaderWorkerSets: groups of pods that are made, placed, updated and restarted as one.

`controller` looks (projections in `observed`), asks `plan` (a set) and `group_plan` (one group), and has `execution`
do what `actions` came out. `rollout` is the arithmetic of updates, `revision_plan` and `revisions` keep templates,
`restart` finds who began the end of a group, `blame` by whose hand and with which last words; `group_ending` answers
(new pods, `in_place`, or left as it is by its `budget`), and `history` and `hanging` tell of it. `pods`, `placement`, `claims` and `tpu` shape what
is made, `status` and `unsupported` say how things stand.
"""
