// An independent client of an API server: what informers, elections, applies and recorders of client-go need of one.
// It runs each check in a namespace of its own, prints one line a check and ends with 1 if one failed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// lamps are custom resources of this program's own: no controller writes them between two steps of a check.
var lamps = schema.GroupVersionResource{Group: "clients.example", Version: "v1", Resource: "lamps"}

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// world is what every check gets: the clients, and a namespace with a default service account.
type world struct {
	ctx       context.Context
	config    *rest.Config
	typed     *kubernetes.Clientset
	dynamic   dynamic.Interface
	metadata  metadata.Interface
	namespace string
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			// No scheduler of this name exists, so that the pod stays as it was written.
			SchedulerName: "none-of-ours",
			Containers: []corev1.Container{{Name: "main", Image: "busybox", Command: []string{"sleep", "1"},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("1.5Gi")}},
				Ports:          []corev1.ContainerPort{{ContainerPort: 80}},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(80)}}},
				Env:            []corev1.EnvVar{{Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}},
			}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
	}
}

func deployment(name string) *appsv1.Deployment {
	replicas := int32(0)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
			},
		},
	}
}

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
}

func lamp(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "clients.example/v1", "kind": "Lamp",
		"metadata": map[string]any{"name": name},
		"spec":     map[string]any{"replicas": int64(0), "brightness": int64(2)},
	}}
}

// defineLamps makes the custom resource, and waits until it is served.
func defineLamps(ctx context.Context, client dynamic.Interface) error {
	whole := map[string]any{"type": "integer"}
	version := map[string]any{
		"name": "v1", "served": true, "storage": true,
		"subresources": map[string]any{"status": map[string]any{}, "scale": map[string]any{
			"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
		"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "properties": map[string]any{
			"spec":   map[string]any{"type": "object", "properties": map[string]any{"replicas": whole, "brightness": whole}},
			"status": map[string]any{"type": "object", "properties": map[string]any{"replicas": whole}},
		}}},
	}
	definition := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "lamps." + lamps.Group},
		"spec": map[string]any{
			"group": lamps.Group, "scope": "Namespaced", "versions": []any{version},
			"names": map[string]any{"kind": "Lamp", "listKind": "LampList", "plural": "lamps", "singular": "lamp"},
		},
	}}
	_, err := client.Resource(definitions).Create(ctx, definition, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return eventually(ctx, "lamps are served", func() bool {
		_, err := client.Resource(lamps).List(ctx, metav1.ListOptions{})
		return err == nil
	})
}

// forgetLamps takes the custom resource away and waits until it is gone.
func forgetLamps(ctx context.Context, client dynamic.Interface) error {
	name := "lamps." + lamps.Group
	if err := client.Resource(definitions).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return eventually(ctx, "lamps are gone", func() bool {
		_, err := client.Resource(definitions).Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

func must(condition bool, format string, arguments ...any) error {
	if condition {
		return nil
	}
	return fmt.Errorf(format, arguments...)
}

// eventually polls until the condition holds.
func eventually(ctx context.Context, what string, condition func() bool) error {
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 20*time.Second, true,
		func(context.Context) (bool, error) { return condition(), nil })
	if err != nil {
		return fmt.Errorf("never so: %s", what)
	}
	return nil
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "of the API server")
	only := flag.String("only", "", "part of the names of the checks to run")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	config.QPS, config.Burst = -1, -1
	jsonConfig := rest.CopyConfig(config)
	protobuf := rest.CopyConfig(config)
	protobuf.ContentType = "application/vnd.kubernetes.protobuf"
	protobuf.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	typed := kubernetes.NewForConfigOrDie(protobuf)
	checks := []struct {
		name string
		run  func(*world) error
	}{
		{"typed objects come back as they were written", typedObjectsComeBackAsTheyWereWritten},
		{"old versions conflict and a retry succeeds", oldVersionsConflictAndARetrySucceeds},
		{"errors have their reasons", errorsHaveTheirReasons},
		{"every patch type works", everyPatchTypeWorks},
		{"apply keeps owners apart", applyKeepsOwnersApart},
		{"typed informers follow", typedInformersFollow},
		{"dynamic informers follow custom resources", dynamicInformersFollowCustomResources},
		{"metadata informers see no more than metadata", metadataInformersSeeNoMore},
		{"paged lists are whole and a watch resumes", aListWithoutWatchListAlsoSyncs},
		{"a version long gone is expired", aVersionLongGoneIsExpired},
		{"one of three leads and another takes over", oneOfThreeLeadsAndAnotherTakesOver},
		{"recorders write events of both groups", recordersWriteEvents},
		{"accounts have tokens and rights", accountsHaveTokensAndRights},
		{"discovery maps every kind", discoveryMapsEveryKind},
		{"pods are bound and evicted", podsAreBoundEvictedAndBudgeted},
		{"many kinds travel as protobuf", manyKindsTravelAsProtobuf},
		{"tables and health are read", wholeListsInProtobufAndTable},
		{"namespaces end", namespacesEmptyThemselves},
	}
	if err = defineLamps(ctx, dynamic.NewForConfigOrDie(jsonConfig)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	failed := 0
	for number, check := range checks {
		if !strings.Contains(check.name, *only) {
			continue
		}
		namespace := fmt.Sprintf("go-%d-%d", os.Getpid(), number)
		begin := time.Now()
		err := prepare(ctx, typed, namespace)
		if err == nil {
			err = check.run(&world{ctx, jsonConfig, typed, dynamic.NewForConfigOrDie(jsonConfig), metadata.NewForConfigOrDie(jsonConfig), namespace})
		}
		if err != nil {
			failed++
			fmt.Printf("FAIL %s: %v\n", check.name, err)
		} else {
			fmt.Printf("ok   %s (%d ms)\n", check.name, time.Since(begin).Milliseconds())
		}
		_ = typed.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{})
	}
	if err = forgetLamps(ctx, dynamic.NewForConfigOrDie(jsonConfig)); err != nil {
		failed++
		fmt.Printf("FAIL %v\n", err)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// prepare makes a namespace and, where no controller does, its default service account.
func prepare(ctx context.Context, typed *kubernetes.Clientset, namespace string) error {
	_, err := typed.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = typed.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
