package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/util/retry"
)

func typedObjectsComeBackAsTheyWereWritten(w *world) error {
	pods := w.typed.CoreV1().Pods(w.namespace)
	made, err := pods.Create(w.ctx, pod("typed"), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if made.UID == "" || made.ResourceVersion == "" || made.CreationTimestamp.IsZero() {
		return fmt.Errorf("no identity: %+v", made.ObjectMeta)
	}
	if got := made.Spec.Containers[0].Resources.Requests.Memory().String(); got != "1536Mi" {
		return fmt.Errorf("memory is %s", got)
	}
	if port := made.Spec.Containers[0].ReadinessProbe.HTTPGet.Port; port.IntValue() != 80 {
		return fmt.Errorf("probe port is %v", port)
	}
	if made.Spec.Containers[0].TerminationMessagePath != "/dev/termination-log" {
		return errors.New("defaults are missing")
	}
	made.Labels["more"] = "yes"
	changed, err := pods.Update(w.ctx, made, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	again, err := pods.Update(w.ctx, changed, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	if again.ResourceVersion != changed.ResourceVersion {
		return errors.New("an update without a change got a new resource version")
	}
	changed.Status.Phase = corev1.PodRunning
	changed.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
	if changed, err = pods.UpdateStatus(w.ctx, changed, metav1.UpdateOptions{}); err != nil {
		return err
	}
	if changed.Status.Phase != corev1.PodRunning {
		return errors.New("the status was not written")
	}
	list, err := pods.List(w.ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("status.phase", "Running").String(), LabelSelector: "app in (web),more"})
	if err != nil {
		return err
	}
	return must(len(list.Items) == 1 && list.Items[0].UID == changed.UID, "%d pods are selected", len(list.Items))
}

func oldVersionsConflictAndARetrySucceeds(w *world) error {
	maps := w.typed.CoreV1().ConfigMaps(w.namespace)
	if _, err := maps.Create(w.ctx, configMap("counter", map[string]string{"n": ""}), metav1.CreateOptions{}); err != nil {
		return err
	}
	var conflicts atomic.Int32
	var writers sync.WaitGroup
	failures := make(chan error, 8)
	for range 8 {
		writers.Go(func() {
			for range 5 {
				err := retry.OnError(wait.Backoff{Steps: 200, Duration: time.Millisecond, Factor: 1.1, Jitter: 1, Cap: 20 * time.Millisecond},
					apierrors.IsConflict, func() error {
						current, err := maps.Get(w.ctx, "counter", metav1.GetOptions{})
						if err != nil {
							return err
						}
						current.Data["n"] += "x"
						_, err = maps.Update(w.ctx, current, metav1.UpdateOptions{})
						if apierrors.IsConflict(err) {
							conflicts.Add(1)
						}
						return err
					})
				if err != nil {
					failures <- err
					return
				}
			}
		})
	}
	writers.Wait()
	close(failures)
	for err := range failures {
		return err
	}
	last, err := maps.Get(w.ctx, "counter", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if len(last.Data["n"]) != 40 {
		return fmt.Errorf("%d of 40 updates are there", len(last.Data["n"]))
	}
	return must(conflicts.Load() > 0, "eight writers never conflicted")
}

func errorsHaveTheirReasons(w *world) error {
	maps := w.typed.CoreV1().ConfigMaps(w.namespace)
	_, err := maps.Get(w.ctx, "none", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("not found: %v", err)
	}
	if _, err = maps.Create(w.ctx, configMap("twice", nil), metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err = maps.Create(w.ctx, configMap("twice", nil), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("already exists: %v", err)
	}
	if _, err = maps.Create(w.ctx, configMap("No_Name", nil), metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		return fmt.Errorf("invalid: %v", err)
	}
	bad := deployment("bad")
	bad.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "other"}}
	_, err = w.typed.AppsV1().Deployments(w.namespace).Create(w.ctx, bad, metav1.CreateOptions{})
	var status *apierrors.StatusError
	if !errors.As(err, &status) || !apierrors.IsInvalid(err) || len(status.ErrStatus.Details.Causes) == 0 {
		return fmt.Errorf("invalid deployment: %v", err)
	}
	uid := types.UID("00000000-0000-0000-0000-000000000000")
	err = maps.Delete(w.ctx, "twice", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if !apierrors.IsConflict(err) {
		return fmt.Errorf("precondition: %v", err)
	}
	_, err = maps.Create(w.ctx, configMap("x", map[string]string{"k": "v"}), metav1.CreateOptions{DryRun: []string{"All"}})
	if err != nil {
		return err
	}
	_, err = maps.Get(w.ctx, "x", metav1.GetOptions{})
	return must(apierrors.IsNotFound(err), "a dry run stored its object: %v", err)
}

func everyPatchTypeWorks(w *world) error {
	deployments := w.typed.AppsV1().Deployments(w.namespace)
	if _, err := deployments.Create(w.ctx, deployment("patched"), metav1.CreateOptions{}); err != nil {
		return err
	}
	strategic := `{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"busybox:2"}]}}}}`
	got, err := deployments.Patch(w.ctx, "patched", types.StrategicMergePatchType, []byte(strategic), metav1.PatchOptions{})
	if err != nil {
		return err
	}
	if len(got.Spec.Template.Spec.Containers) != 2 || got.Generation != 2 {
		return fmt.Errorf("strategic: %d containers, generation %d", len(got.Spec.Template.Spec.Containers), got.Generation)
	}
	got, err = deployments.Patch(w.ctx, "patched", types.MergePatchType, []byte(`{"metadata":{"annotations":{"a":"b"}}}`), metav1.PatchOptions{FieldManager: "merger"})
	if err != nil {
		return err
	}
	// A deployment hands its annotations on to its replica sets, so that they count as a change of what is asked for.
	if got.Annotations["a"] != "b" || got.Generation != 3 {
		return fmt.Errorf("merge patch: %v, generation %d", got.Annotations, got.Generation)
	}
	got, err = deployments.Patch(w.ctx, "patched", types.JSONPatchType, []byte(`[{"op":"test","path":"/metadata/annotations/a","value":"b"},{"op":"remove","path":"/metadata/annotations/a"}]`), metav1.PatchOptions{})
	if err != nil {
		return err
	}
	if _, there := got.Annotations["a"]; there {
		return errors.New("json patch")
	}
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error { // a controller may write its status meanwhile
		replicas, err := deployments.GetScale(w.ctx, "patched", metav1.GetOptions{})
		if err != nil {
			return err
		}
		replicas.Spec.Replicas = 0
		_, err = deployments.UpdateScale(w.ctx, "patched", replicas, metav1.UpdateOptions{})
		return err
	})
}

func applyKeepsOwnersApart(w *world) error {
	deployments := w.typed.AppsV1().Deployments(w.namespace)
	first := appsapply.Deployment("applied", w.namespace).WithLabels(map[string]string{"one": "1"}).
		WithSpec(appsapply.DeploymentSpec().WithReplicas(0).
			WithSelector(metaapply.LabelSelector().WithMatchLabels(map[string]string{"app": "a"})).
			WithTemplate(coreapply.PodTemplateSpec().WithLabels(map[string]string{"app": "a"}).
				WithSpec(coreapply.PodSpec().WithContainers(coreapply.Container().WithName("main").WithImage("busybox").
					WithPorts(coreapply.ContainerPort().WithContainerPort(80))))))
	made, err := deployments.Apply(w.ctx, first, metav1.ApplyOptions{FieldManager: "first"})
	if err != nil {
		return err
	}
	// The deployment's controller writes too: that nothing is written shows as soon as it has looked.
	same, before := made, ""
	for tries := 0; same.ResourceVersion != before; tries++ {
		if tries == 50 {
			return errors.New("the same apply makes a new version each time")
		}
		before = same.ResourceVersion
		if same, err = deployments.Apply(w.ctx, first, metav1.ApplyOptions{FieldManager: "first"}); err != nil {
			return err
		}
	}
	second := appsapply.Deployment("applied", w.namespace).WithSpec(appsapply.DeploymentSpec().WithReplicas(1))
	_, err = deployments.Apply(w.ctx, second, metav1.ApplyOptions{FieldManager: "second"})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "first"`) {
		return fmt.Errorf("no conflict: %v", err)
	}
	second.Spec.WithReplicas(0)
	if _, err = deployments.Apply(w.ctx, second, metav1.ApplyOptions{FieldManager: "second", Force: true}); err != nil {
		return err
	}
	extracted, err := appsapply.ExtractDeployment(same, "first")
	if err != nil {
		return err
	}
	if extracted.Spec == nil || *extracted.Spec.Replicas != 0 || extracted.Labels["one"] != "1" || len(extracted.Spec.Template.Spec.Containers) != 1 {
		return fmt.Errorf("extracted: %+v", extracted)
	}
	extracted.Labels = nil
	last, err := deployments.Apply(w.ctx, extracted, metav1.ApplyOptions{FieldManager: "first"})
	if err != nil {
		return err
	}
	if _, there := last.Labels["one"]; there {
		return errors.New("a field that its only owner left out is still there")
	}
	status := appsapply.Deployment("applied", w.namespace).WithStatus(appsapply.DeploymentStatus().WithObservedGeneration(7))
	got, err := deployments.ApplyStatus(w.ctx, status, metav1.ApplyOptions{FieldManager: "status", Force: true})
	if err != nil {
		return err
	}
	return must(len(got.ManagedFields) >= 3, "managers: %+v", got.ManagedFields)
}
