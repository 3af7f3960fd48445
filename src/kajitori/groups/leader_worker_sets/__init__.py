"""LeaderWorkerSets: groups of pods that are made, placed, updated and restarted as one.

`controller` looks (projections in `observed`), asks `plan` (a set) and `group_plan` (one group), and has `execution`
do what `actions` came out. `rollout` is the arithmetic of updates, `revision_plan` and `revisions` keep templates,
`restart` finds who began the end of a group and `blame` by whose hand, `pods`, `placement`, `claims` and `tpu` shape what
is made, `status` and `unsupported` say how things stand.
"""
