"""Wire types of our own kinds for the gateway (gateway.kajitori.dev): what no upstream API has a field for.

One module a kind, each with its `DEFINITIONS`.
"""

GROUP = "gateway.kajitori.dev"
VERSION = "v1alpha1"
