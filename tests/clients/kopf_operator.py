"""An operator on kopf: pages, each with a ConfigMap of its own. Run by `kopf run`.

Creation, update, resumption, deletion, a field's change, a daemon, a timer, an index, a child's events: what each
handler saw is written into the page's status, where the test reads it.
"""

from __future__ import annotations

from typing import Any

import kopf
import kubernetes

PAGES = ("tests.kajitori.dev", "v1", "pages")


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    kubernetes.config.load_kube_config()
    settings.peering.standalone = True
    settings.posting.level = 20
    settings.persistence.finalizer = "tests.kajitori.dev/kopf"
    settings.networking.connect_timeout = 10


@kopf.index(*PAGES)
def by_title(spec: kopf.Spec, name: str, **_: Any) -> dict[str, str]:
    return {spec.get("title", ""): name}


@kopf.on.create(*PAGES)
def created(
    spec: kopf.Spec, name: str, namespace: str, body: kopf.Body, patch: kopf.Patch, **_: Any
) -> dict[str, str]:
    child = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"title": spec["title"]},
    }
    kopf.adopt(child)
    kopf.label(child, {"page": name})
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, child)
    kopf.info(body, reason="Published", message=f"made {name}")
    patch.status["phase"] = "Published"
    return {"title": spec["title"]}


@kopf.on.update(*PAGES, field="spec.title")
def renamed(
    old: Any, new: Any, name: str, namespace: str, by_title: kopf.Index[str, str], **_: Any
) -> dict[str, Any]:
    change = {"data": {"title": new}}
    kubernetes.client.CoreV1Api().patch_namespaced_config_map(name, namespace, change)
    return {"from": old, "to": new, "known": sorted(key for key in by_title if key)}


@kopf.on.resume(*PAGES)
def resumed(**_: Any) -> dict[str, bool]:
    return {"seen": True}


@kopf.on.update(*PAGES, field="spec.retries")
def stubborn(retry: int, **_: Any) -> dict[str, int]:
    if retry < 2:
        raise kopf.TemporaryError("not yet", delay=0.1)
    return {"tries": retry}


@kopf.on.delete(*PAGES)
def deleted(name: str, namespace: str, **_: Any) -> None:
    note = {"metadata": {"name": f"{name}-was-here"}}
    try:
        kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, note)
    except kubernetes.client.ApiException as error:
        # A handler runs again if what came of it could not be written down.
        if error.status != 409:
            raise


@kopf.daemon(*PAGES, when=lambda spec, **_: spec.get("daemon", False))
def watching(stopped: kopf.DaemonStopped, name: str, namespace: str, **_: Any) -> None:
    # A daemon's patch is sent when it ends; this one speaks before.
    tell(namespace, name, {"daemon": "began"})
    stopped.wait(0.1)
    tell(namespace, name, {"daemon": "waited"})
    stopped.wait()


@kopf.timer(*PAGES, interval=0.5, when=lambda spec, **_: spec.get("timer", False))
def ticking(status: kopf.Status, patch: kopf.Patch, **_: Any) -> None:
    patch.status["ticks"] = status.get("ticks", 0) + 1


@kopf.on.event("configmaps", labels={"page": kopf.PRESENT})
def child_changed(event: Any, namespace: str, body: kopf.Body, **_: Any) -> None:
    if event["type"] == "MODIFIED":
        page = body["metadata"]["labels"]["page"]
        tell(namespace, page, {"child": body["data"].get("title", "")})


def tell(namespace: str, page: str, status: dict[str, str]) -> None:
    api = kubernetes.client.CustomObjectsApi()
    api.patch_namespaced_custom_object_status(*PAGES[:2], namespace, PAGES[2], page, {"status": status})
