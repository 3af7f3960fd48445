"""Gates: how whole gangs are placed on a cluster whose scheduler is somebody else's.

Pods of a gang are made with the gate of `kajitori.model.gang`. `controller` watches them, the nodes, and what all other
pods hold (`records`); when a whole gang fits, `opening` ties each pod to its node and takes the gate away in one patch, and the
cluster's scheduler binds it there. `members` says how a gang stands. A gang that comes apart on the way is marked, and
whoever made it begins it anew.
"""
