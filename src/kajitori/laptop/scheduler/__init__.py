"""The laptop's scheduler: puts each pod on the node that `kajitori.scheduling` decides on.

`controller` watches, binds, and tells pods why they wait.
"""
