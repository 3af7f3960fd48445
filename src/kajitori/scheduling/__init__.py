"""Where pods go: decisions about nodes, pure, for whoever carries them out.

`plan` takes a batch of pods and a `ClusterState`, which is kept up to date pod by pod, and decides about each; `pods`
decides about one. The laptop's scheduler binds what is decided here; on a cluster with a scheduler of its own, the same
decisions open gates. Names of filters, reasons and messages are those of kube-scheduler.
"""
