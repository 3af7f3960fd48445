package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/pager"
	watchtools "k8s.io/client-go/tools/watch"
)

func typedInformersFollow(w *world) error {
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	factory := informers.NewSharedInformerFactoryWithOptions(w.typed, 0, informers.WithNamespace(w.namespace))
	maps, pods, deployments := factory.Core().V1().ConfigMaps(), factory.Core().V1().Pods(), factory.Apps().V1().Deployments()
	for _, informer := range []cache.SharedIndexInformer{
		maps.Informer(), pods.Informer(), deployments.Informer(), factory.Core().V1().Secrets().Informer(), factory.Core().V1().Services().Informer(),
		factory.Apps().V1().ReplicaSets().Informer(), factory.Apps().V1().StatefulSets().Informer(), factory.Apps().V1().DaemonSets().Informer(),
		factory.Batch().V1().Jobs().Informer(), factory.Batch().V1().CronJobs().Informer(), factory.Coordination().V1().Leases().Informer(),
		factory.Discovery().V1().EndpointSlices().Informer(), factory.Policy().V1().PodDisruptionBudgets().Informer(),
		factory.Rbac().V1().Roles().Informer(), factory.Autoscaling().V2().HorizontalPodAutoscalers().Informer(),
		factory.Networking().V1().NetworkPolicies().Informer(), factory.Events().V1().Events().Informer(),
		factory.Core().V1().Nodes().Informer(), factory.Core().V1().Namespaces().Informer(), factory.Scheduling().V1().PriorityClasses().Informer(),
		factory.Storage().V1().StorageClasses().Informer(), factory.Core().V1().ServiceAccounts().Informer(),
	} {
		if err := informer.SetWatchErrorHandler(func(_ *cache.Reflector, err error) { fmt.Fprintln(os.Stderr, "watch:", err) }); err != nil {
			return err
		}
	}
	var added, changed, deleted atomic.Int32
	// A controller of the cluster adds a config map of its own to each namespace.
	own := func(object any) bool {
		name, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
		return err == nil && !strings.HasSuffix(name, "/kube-root-ca.crt")
	}
	handler, err := maps.Informer().AddEventHandler(cache.FilteringResourceEventHandler{FilterFunc: own, Handler: cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { added.Add(1) },
		UpdateFunc: func(any, any) { changed.Add(1) },
		DeleteFunc: func(any) { deleted.Add(1) },
	}})
	if err != nil {
		return err
	}
	writer := w.typed.CoreV1().ConfigMaps(w.namespace)
	before, err := writer.Create(ctx, configMap("before", map[string]string{"a": "1"}), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	deadline, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for kind, synced := range factory.WaitForCacheSync(deadline.Done()) {
		if !synced {
			return fmt.Errorf("%v never synced", kind)
		}
	}
	if _, err = maps.Lister().ConfigMaps(w.namespace).Get("before"); err != nil {
		return err
	}
	if !cache.WaitForCacheSync(deadline.Done(), handler.HasSynced) {
		return errors.New("the handler never saw what was there")
	}
	start := added.Load()
	for number := range 50 {
		if _, err = writer.Create(ctx, configMap(fmt.Sprintf("during-%d", number), nil), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	before.Data["a"] = "2"
	if _, err = writer.Update(ctx, before, metav1.UpdateOptions{}); err != nil {
		return err
	}
	if err = writer.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "metadata.name!=before"}); err != nil {
		return err
	}
	if err = eventually(ctx, "50 added, 1 changed, 50 deleted", func() bool {
		return added.Load()-start == 50 && changed.Load() == 1 && deleted.Load() >= 50
	}); err != nil {
		return fmt.Errorf("%w (%d, %d, %d)", err, added.Load()-start, changed.Load(), deleted.Load())
	}
	if _, err = w.typed.CoreV1().Pods(w.namespace).Create(ctx, pod("seen"), metav1.CreateOptions{}); err != nil {
		return err
	}
	return eventually(ctx, "the pod is in the cache", func() bool {
		found, err := pods.Lister().Pods(w.namespace).List(labels.SelectorFromSet(labels.Set{"app": "web"}))
		return err == nil && len(found) >= 1
	})
}

func dynamicInformersFollowCustomResources(w *world) error {
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	client := w.dynamic.Resource(lamps).Namespace(w.namespace)
	if _, err := client.Create(ctx, lamp("first"), metav1.CreateOptions{}); err != nil {
		return err
	}
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(w.dynamic, 0, w.namespace, nil)
	informer := factory.ForResource(lamps)
	if _, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	deadline, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for kind, synced := range factory.WaitForCacheSync(deadline.Done()) {
		if !synced {
			return fmt.Errorf("%v never synced", kind)
		}
	}
	applied := lamp("second")
	got, err := client.Apply(ctx, "second", applied, metav1.ApplyOptions{FieldManager: "go"})
	if err != nil {
		return err
	}
	if brightness, _, _ := unstructured.NestedInt64(got.Object, "spec", "brightness"); brightness != 2 {
		return fmt.Errorf("the brightness is %d", brightness)
	}
	if _, err = client.Patch(ctx, "second", types.MergePatchType, []byte(`{"status":{"replicas":3}}`), metav1.PatchOptions{}, "status"); err != nil {
		return err
	}
	if err = eventually(ctx, "the informer has the status", func() bool {
		found, err := informer.Lister().ByNamespace(w.namespace).Get("second")
		if err != nil {
			return false
		}
		replicas, _, _ := unstructured.NestedInt64(found.(*unstructured.Unstructured).Object, "status", "replicas")
		return replicas == 3
	}); err != nil {
		return err
	}
	if _, err = client.Patch(ctx, "second", types.StrategicMergePatchType, []byte(`{}`), metav1.PatchOptions{}); !apierrors.IsUnsupportedMediaType(err) {
		return fmt.Errorf("a strategic patch of a custom resource: %v", err)
	}
	foreground := metav1.DeletePropagationBackground
	if err = client.Delete(ctx, "second", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		return err
	}
	return eventually(ctx, "the informer has let it go", func() bool {
		_, err := informer.Lister().ByNamespace(w.namespace).Get("second")
		return apierrors.IsNotFound(err)
	})
}

func metadataInformersSeeNoMore(w *world) error {
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	if _, err := w.typed.CoreV1().ConfigMaps(w.namespace).Create(ctx, configMap("meta", map[string]string{"big": "data"}), metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := w.dynamic.Resource(lamps).Namespace(w.namespace).Create(ctx, lamp("meta"), metav1.CreateOptions{}); err != nil {
		return err
	}
	maps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	factory := metadatainformer.NewFilteredSharedInformerFactory(w.metadata, 0, w.namespace, nil)
	for _, kind := range []schema.GroupVersionResource{maps, lamps} {
		informer := factory.ForResource(kind)
		_, _ = informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{})
	}
	factory.Start(ctx.Done())
	deadline, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for kind, synced := range factory.WaitForCacheSync(deadline.Done()) {
		if !synced {
			return fmt.Errorf("%v never synced", kind)
		}
	}
	for _, kind := range []schema.GroupVersionResource{maps, lamps} {
		found, err := factory.ForResource(kind).Lister().ByNamespace(w.namespace).Get("meta")
		if err != nil {
			return err
		}
		if found.(*metav1.PartialObjectMetadata).UID == "" {
			return errors.New("no uid")
		}
		if _, err = w.metadata.Resource(kind).Namespace(w.namespace).Patch(ctx, "meta", types.MergePatchType, []byte(`{"metadata":{"labels":{"seen":"yes"}}}`), metav1.PatchOptions{}); err != nil {
			return err
		}
		if err = eventually(ctx, "the label arrives", func() bool {
			found, err := factory.ForResource(kind).Lister().ByNamespace(w.namespace).Get("meta")
			return err == nil && found.(*metav1.PartialObjectMetadata).Labels["seen"] == "yes"
		}); err != nil {
			return err
		}
	}
	listed, err := w.metadata.Resource(maps).Namespace(w.namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return err
	}
	return must(len(listed.Items) == 1, "%d items", len(listed.Items))
}

func aListWithoutWatchListAlsoSyncs(w *world) error {
	// What client-go before 1.35, and every client that pages, does.
	for number := range 25 {
		if _, err := w.typed.CoreV1().ConfigMaps(w.namespace).Create(w.ctx, configMap(fmt.Sprintf("page-%02d", number), nil), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	seen := []string{}
	pages := pager.New(pager.SimplePageFunc(func(options metav1.ListOptions) (runtime.Object, error) {
		return w.typed.CoreV1().ConfigMaps(w.namespace).List(w.ctx, options)
	}))
	pages.PageSize = 4
	err := pages.EachListItem(w.ctx, metav1.ListOptions{}, func(item runtime.Object) error {
		if name := item.(*corev1.ConfigMap).Name; strings.HasPrefix(name, "page-") {
			seen = append(seen, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(seen) != 25 || !sort.StringsAreSorted(seen) {
		return fmt.Errorf("pages: %v", seen)
	}
	list, err := w.typed.CoreV1().ConfigMaps(w.namespace).List(w.ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	watcher, err := watchtools.NewRetryWatcherWithContext(w.ctx, list.ResourceVersion, &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		seconds := int64(1)
		options.TimeoutSeconds = &seconds
		return w.typed.CoreV1().ConfigMaps(w.namespace).Watch(ctx, options)
	}})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	if err = w.typed.CoreV1().ConfigMaps(w.namespace).Delete(w.ctx, "page-00", metav1.DeleteOptions{}); err != nil {
		return err
	}
	for number := range 2 {
		select {
		case event := <-watcher.ResultChan():
			if number == 0 && event.Type != watch.Deleted {
				return fmt.Errorf("event %v", event)
			}
		case <-time.After(20 * time.Second):
			return errors.New("no event after the watch had ended and begun again")
		}
		if number == 0 {
			time.Sleep(1200 * time.Millisecond) // past the end of the first watch
			if err = w.typed.CoreV1().ConfigMaps(w.namespace).Delete(w.ctx, "page-01", metav1.DeleteOptions{}); err != nil {
				return err
			}
		}
	}
	_, err = w.typed.CoreV1().ConfigMaps(w.namespace).List(w.ctx, metav1.ListOptions{Continue: "garbage"})
	return must(apierrors.IsBadRequest(err), "a garbage continue token: %v", err)
}

func aVersionLongGoneIsExpired(w *world) error {
	watcher, err := w.typed.CoreV1().ConfigMaps("").Watch(w.ctx, metav1.ListOptions{ResourceVersion: "1"})
	if err != nil {
		return must(apierrors.IsResourceExpired(err) || apierrors.IsGone(err), "%v", err)
	}
	defer watcher.Stop()
	select {
	case event := <-watcher.ResultChan():
		if event.Type == watch.Error {
			err := apierrors.FromObject(event.Object)
			return must(apierrors.IsResourceExpired(err) || apierrors.IsGone(err), "%v", err)
		}
		return nil // the history reaches back that far
	case <-time.After(10 * time.Second):
		return errors.New("silence")
	}
}
