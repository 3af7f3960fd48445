"""What stands between a decoded request and the store, besides the rules of a kind itself.

    prerequisites   other objects that must exist, rights that roles grant
    plugins         limits, quotas, pod_security, storage classes: what the server adds and asks by itself
    requests        from a call to what others are told of it (`review`), and back
    chain           whom a request meets: policies, and webhooks, reached by `client`
    matching        rules and selectors; expressions: what CEL sees; declared: what configurations must be
    steps           how a decision waits for somebody outside this process

Changes come first (plugins, then webhooks, once more where one changed what another saw), then the rules of the
kind, then whoever may only refuse; quotas are charged in the commit itself.
"""
