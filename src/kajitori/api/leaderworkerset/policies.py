"""What a definition cannot say of a LeaderWorkerSet: rules about its annotations, as a ValidatingAdmissionPolicy.

A rule of a definition sees of the metadata nothing but the name. Where the policy is not installed, the condition
`kajitori.dev/FieldsNotHonoured` names what it would have refused.
"""

from __future__ import annotations

from typing import Any

from kajitori.api.leaderworkerset.v1 import GROUP, SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION

POLICY_NAME = "leaderworkersets.groups.kajitori.dev"

_ASKED = f"'{SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION}' in object.metadata.?annotations.orValue({{}})"


def policies() -> list[dict[str, Any]]:
    """The policy and its binding."""
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": POLICY_NAME},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "resourceRules": [
                        {
                            "apiGroups": [GROUP],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE", "UPDATE"],
                            "resources": ["leaderworkersets"],
                        }
                    ]
                },
                # Whoever takes the last finalizer off an older set changes it, and must not be kept from it.
                "matchConditions": [
                    {"name": "stays", "expression": "!has(object.metadata.deletionTimestamp)"}
                ],
                "validations": [
                    {
                        "expression": f"!({_ASKED}) || has(object.spec.leaderWorkerTemplate.subGroupPolicy)",
                        "message": f"metadata.annotations[{SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION}]: there are no"
                        " subgroups without spec.leaderWorkerTemplate.subGroupPolicy",
                        "reason": "Invalid",
                    }
                ],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": POLICY_NAME},
            "spec": {"policyName": POLICY_NAME, "validationActions": ["Deny"]},
        },
    ]
