"""The laptop's scheduler: decides on which node each pod runs.

`plan` is the decision, pure over a `ClusterState` that is kept up to date pod by pod; `controller` watches, binds, and
tells pods why they wait. Names of filters, reasons and messages are those of kube-scheduler.
"""
