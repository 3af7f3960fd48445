"""The embedded Kubernetes API server: objects in memory, SQLite under them, the API of upstream on top.

A request flows `http` (bytes) → `auth`, `rbac` (who, may they) → `handlers` (verbs) → `kinds`, `patches`,
`apply`, `crd` (what a kind means: data and pure functions) → `store` (one commit) → `watch` (who wants to know).
"""
