"""DisaggregatedSets: roles of LeaderWorkerSets that serve together and are rolled out as one.

`controller` looks (projections in `observed`), asks `plan` (a set) and `slice_plan` (one slice), and has `execution` do
what `actions` came out. `rollout` is the arithmetic of updates, `revisions` says which templates belong together,
`children` and `placement` shape what is made, `scaling` says how many groups a role shall have and by whose word,
`status` and `unsupported` how things stand, `dry_run` what a change would do. LeaderWorkerSets are met through the
API only, whoever serves them.
"""
