"""Installation on a cluster: one source of manifests, from which `kaji install` renders and the Helm chart is made.

`values` is what a user may choose, `blueprint` the objects with choices left open, `templating` fills them in or writes
them as a chart. `definitions` decides about CustomResourceDefinitions, `installer` applies, waits, upgrades and removes.
"""
