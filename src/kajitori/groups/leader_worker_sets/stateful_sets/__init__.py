"""Groups through StatefulSets, for tools that look for those: `bodies` shapes them, `plan` decides.

A set that asks for it (annotation `groups.kajitori.dev/compatibility: StatefulSet`) gets what kubernetes-sigs/lws makes:
one StatefulSet of leaders and one of workers for each leader. What pods get elsewhere when they are made, labels that
differ from pod to pod, is added here a moment later, since a StatefulSet has but one template.
"""
