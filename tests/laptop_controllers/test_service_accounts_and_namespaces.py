from kajitori.api.resource import CONFIG_MAPS, NAMESPACES, PODS, SERVICE_ACCOUNTS
from kajitori.base.errors import NotFound
from kajitori.laptop.controllers import namespaces, service_accounts


async def gone(world, resource, name, namespace=None):
    async def check():
        try:
            await world.client.get(resource, name, namespace)
        except NotFound:
            return True

    await world.until(check)


def namespace(name):
    return {"metadata": {"name": name}}


async def test_every_namespace_gets_its_account_and_the_servers_certificates(world):
    await world.start(service_accounts)
    await world.client.create(NAMESPACES, namespace("team"))
    for name in ("default", "kube-system", "team"):
        await world.until(lambda name=name: world.client.get(SERVICE_ACCOUNTS, "default", name))
        certificates = await world.until(
            lambda name=name: world.client.get(CONFIG_MAPS, "kube-root-ca.crt", name)
        )
        assert certificates["data"]["ca.crt"] == world.client.config.certificate_authority.decode()


async def test_they_come_back_when_deleted_or_changed(world):
    await world.start(service_accounts)
    first = await world.until(lambda: world.client.get(SERVICE_ACCOUNTS, "default", "default"))
    await world.until(lambda: world.client.get(CONFIG_MAPS, "kube-root-ca.crt", "default"))
    await world.client.delete(SERVICE_ACCOUNTS, "default", "default")
    await world.client.patch(
        CONFIG_MAPS, "kube-root-ca.crt", {"data": {"ca.crt": "bad", "more": "x"}}, namespace="default"
    )

    async def restored():
        account = await world.client.get(SERVICE_ACCOUNTS, "default", "default")
        data = (await world.client.get(CONFIG_MAPS, "kube-root-ca.crt", "default"))["data"]
        return (
            account["metadata"]["uid"] != first["metadata"]["uid"]
            and list(data) == ["ca.crt"]
            and data["ca.crt"] != "bad"
        )

    await world.until(restored)


async def test_a_deleted_namespace_is_emptied_and_then_gone(world):
    await world.start(namespaces, service_accounts)
    await world.client.create(NAMESPACES, namespace("team"))
    await world.until(lambda: world.client.get(SERVICE_ACCOUNTS, "default", "team"))
    for number in range(5):
        await world.client.create(CONFIG_MAPS, {"metadata": {"name": f"m{number}", "namespace": "team"}})
    await world.client.delete(NAMESPACES, "team")
    await gone(world, NAMESPACES, "team")
    assert (await world.client.list(CONFIG_MAPS, "team")).items == []


async def test_a_namespace_waits_for_what_lingers_and_says_what_it_is(world):
    await world.start(namespaces, service_accounts)
    await world.client.create(NAMESPACES, namespace("team"))
    held = {"metadata": {"name": "held", "namespace": "team", "finalizers": ["example.com/hold"]}}
    await world.client.create(CONFIG_MAPS, held)
    await world.client.delete(NAMESPACES, "team")

    async def told():
        status = (await world.client.get(NAMESPACES, "team"))["status"]
        conditions = {c["type"]: c for c in status["conditions"]}
        assert status["phase"] == "Terminating"
        assert conditions["NamespaceContentRemaining"]["status"] == "True"
        assert "configmaps. has 1 resource instances" in conditions["NamespaceContentRemaining"]["message"]
        assert "example.com/hold in 1" in conditions["NamespaceFinalizersRemaining"]["message"]
        return True

    await world.until(told)
    await world.client.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, namespace="team")
    await gone(world, NAMESPACES, "team")


async def test_pods_with_grace_end_before_their_namespace(world):
    await world.start(namespaces, service_accounts)
    await world.client.create(NAMESPACES, namespace("team"))
    await world.until(lambda: world.client.get(SERVICE_ACCOUNTS, "default", "team"))
    await world.add_node("node-1")
    pod = {
        "metadata": {"name": "slow", "namespace": "team"},
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "busybox"}]},
    }
    await world.client.create(PODS, pod)
    await world.client.delete(NAMESPACES, "team")

    async def marked():
        return "deletionTimestamp" in (await world.client.get(PODS, "slow", "team"))["metadata"]

    await world.until(marked)
    await world.run_pods(namespace="team")
    await gone(world, NAMESPACES, "team")
