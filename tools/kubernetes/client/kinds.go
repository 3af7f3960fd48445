package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	authv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
)

func accountsHaveTokensAndRights(w *world) error {
	seconds := int64(600)
	token, err := w.typed.CoreV1().ServiceAccounts(w.namespace).CreateToken(w.ctx, "default",
		&authv1.TokenRequest{Spec: authv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	config := rest.AnonymousClientConfig(w.config)
	config.BearerToken = token.Status.Token
	bearer, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	who, err := bearer.AuthenticationV1().SelfSubjectReviews().Create(w.ctx, &authv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if who.Status.UserInfo.Username != "system:serviceaccount:"+w.namespace+":default" {
		return fmt.Errorf("user is %q", who.Status.UserInfo.Username)
	}
	if _, err = bearer.CoreV1().Secrets(w.namespace).List(w.ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		return fmt.Errorf("secrets of others: %v", err)
	}
	review, err := w.typed.AuthorizationV1().SubjectAccessReviews().Create(w.ctx, &authzv1.SubjectAccessReview{Spec: authzv1.SubjectAccessReviewSpec{
		User: who.Status.UserInfo.Username, Groups: who.Status.UserInfo.Groups,
		ResourceAttributes: &authzv1.ResourceAttributes{Verb: "list", Resource: "secrets", Namespace: w.namespace}}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if review.Status.Allowed {
		return errors.New("the review allows what the server forbids")
	}
	tokenReview, err := w.typed.AuthenticationV1().TokenReviews().Create(w.ctx, &authv1.TokenReview{Spec: authv1.TokenReviewSpec{Token: token.Status.Token}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if !tokenReview.Status.Authenticated {
		return fmt.Errorf("token review: %+v", tokenReview.Status)
	}
	impersonator := rest.CopyConfig(w.config)
	impersonator.Impersonate = rest.ImpersonationConfig{UserName: "jane", Groups: []string{"devs"}}
	jane, err := kubernetes.NewForConfig(impersonator)
	if err != nil {
		return err
	}
	rules, err := jane.AuthorizationV1().SelfSubjectRulesReviews().Create(w.ctx, &authzv1.SelfSubjectRulesReview{Spec: authzv1.SelfSubjectRulesReviewSpec{Namespace: w.namespace}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return must(len(rules.Status.NonResourceRules) > 0, "rules: %+v", rules.Status)
}

func discoveryMapsEveryKind(w *world) error {
	client, err := discovery.NewDiscoveryClientForConfig(w.config)
	if err != nil {
		return err
	}
	_, lists, err := client.ServerGroupsAndResources()
	if err != nil {
		return err
	}
	plain := client.WithLegacy()
	_, plainLists, err := plain.ServerGroupsAndResources()
	if err != nil {
		return err
	}
	names := func(lists []*metav1.APIResourceList) []string {
		all := []string{}
		for _, list := range lists {
			for _, found := range list.APIResources {
				all = append(all, list.GroupVersion+"/"+found.Name+"/"+found.Kind+fmt.Sprint(found.Namespaced))
			}
		}
		sort.Strings(all)
		return all
	}
	if a, b := names(lists), names(plainLists); strings.Join(a, "\n") != strings.Join(b, "\n") {
		return fmt.Errorf("aggregated and plain discovery differ: %d and %d", len(a), len(b))
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client))
	mapping, err := mapper.RESTMapping(schema.GroupKind{Group: lamps.Group, Kind: "Lamp"})
	if err != nil {
		return err
	}
	if mapping.Resource != lamps {
		return fmt.Errorf("mapped to %v", mapping.Resource)
	}
	scales, err := scale.NewForConfig(w.config, mapper, dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(client))
	if err != nil {
		return err
	}
	if _, err = w.dynamic.Resource(lamps).Namespace(w.namespace).Create(w.ctx, lamp("scaled"), metav1.CreateOptions{}); err != nil {
		return err
	}
	current, err := scales.Scales(w.namespace).Get(w.ctx, lamps.GroupResource(), "scaled", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if _, err = scales.Scales(w.namespace).Update(w.ctx, lamps.GroupResource(), current, metav1.UpdateOptions{}); err != nil {
		return err
	}
	schemas, err := client.OpenAPIV3().Paths()
	if err != nil {
		return err
	}
	document, err := schemas["apis/apps/v1"].Schema("application/json")
	if err != nil {
		return err
	}
	var decoded map[string]any
	if err = json.Unmarshal(document, &decoded); err != nil {
		return err
	}
	if _, err = client.ServerVersion(); err != nil {
		return err
	}
	return nil
}

func podsAreBoundEvictedAndBudgeted(w *world) error {
	pods := w.typed.CoreV1().Pods(w.namespace)
	guarded := pod("guarded")
	guarded.Labels = map[string]string{"app": "guarded"}
	if _, err := pods.Create(w.ctx, guarded, metav1.CreateOptions{}); err != nil {
		return err
	}
	binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "guarded"}, Target: corev1.ObjectReference{Kind: "Node", Name: "node-that-is-not"}}
	if err := pods.Bind(w.ctx, binding, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := pods.Bind(w.ctx, binding, metav1.CreateOptions{}); !apierrors.IsConflict(err) {
		return fmt.Errorf("bound twice: %v", err)
	}
	one := intstr.FromInt32(1)
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "budget"}, Spec: policyv1.PodDisruptionBudgetSpec{
		MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "guarded"}}}}
	if _, err := w.typed.PolicyV1().PodDisruptionBudgets(w.namespace).Create(w.ctx, budget, metav1.CreateOptions{}); err != nil {
		return err
	}
	free := pod("free")
	free.Labels = map[string]string{"app": "free"}
	if _, err := pods.Create(w.ctx, free, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := pods.EvictV1(w.ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "free"}}); err != nil {
		return err
	}
	return eventually(w.ctx, "the evicted pod is gone", func() bool {
		_, err := pods.Get(w.ctx, "free", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

func manyKindsTravelAsProtobuf(w *world) error {
	one := int32(1)
	seconds := int64(30)
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x"}}, Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: &seconds, SchedulerName: "none-of-ours",
		Tolerations: []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}},
		Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}}}}}}}},
		Containers: []corev1.Container{{Name: "c", Image: "busybox", Args: []string{"", "ünï"}}}}}
	suspended := true
	if _, err := w.typed.BatchV1().Jobs(w.namespace).Create(w.ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "job"},
		Spec: batchv1.JobSpec{Parallelism: &one, Suspend: &suspended, Template: template}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	got, err := w.typed.BatchV1().Jobs(w.namespace).Get(w.ctx, "job", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if args := got.Spec.Template.Spec.Containers[0].Args; len(args) != 2 || args[1] != "ünï" {
		return fmt.Errorf("args: %q", args)
	}
	if _, err = w.typed.BatchV1().CronJobs(w.namespace).Create(w.ctx, &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "cron"},
		Spec: batchv1.CronJobSpec{Schedule: "0 0 1 1 *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bytes"}, Data: map[string][]byte{"raw": {0, 1, 255}}, StringData: map[string]string{"text": "ü"}}
	stored, err := w.typed.CoreV1().Secrets(w.namespace).Create(w.ctx, secret, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if string(stored.Data["raw"]) != "\x00\x01\xff" || string(stored.Data["text"]) != "ü" {
		return fmt.Errorf("secret: %q", stored.Data)
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "svc"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "x"},
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("web")}}}}
	made, err := w.typed.CoreV1().Services(w.namespace).Create(w.ctx, service, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if made.Spec.ClusterIP == "" || made.Spec.Ports[0].TargetPort.StrVal != "web" {
		return fmt.Errorf("service: %+v", made.Spec)
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "go-" + w.namespace}}
	if _, err = w.typed.CoreV1().Nodes().Create(w.ctx, node, metav1.CreateOptions{}); err != nil {
		return err
	}
	return w.typed.CoreV1().Nodes().Delete(w.ctx, node.Name, metav1.DeleteOptions{})
}

func wholeListsInProtobufAndTable(w *world) error {
	if _, err := w.typed.CoreV1().ConfigMaps(w.namespace).Create(w.ctx, configMap("raw", map[string]string{"a": "b"}), metav1.CreateOptions{}); err != nil {
		return err
	}
	body, err := w.typed.CoreV1().RESTClient().Get().Namespace(w.namespace).Resource("configmaps").
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(w.ctx)
	if err != nil {
		return err
	}
	var table metav1.Table
	if err = json.Unmarshal(body, &table); err != nil {
		return err
	}
	if table.Kind != "Table" || len(table.Rows) == 0 {
		return fmt.Errorf("table: %s", body)
	}
	stream, err := w.typed.CoreV1().RESTClient().Get().AbsPath("/healthz").Stream(w.ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	health, err := io.ReadAll(stream)
	if err != nil {
		return err
	}
	return must(string(health) == "ok", "health is %q", health)
}

func namespacesEmptyThemselves(w *world) error {
	// Without the namespace controller it stays Terminating, which is as much as a bare API server promises.
	name := w.namespace + "-gone"
	namespaces := w.typed.CoreV1().Namespaces()
	if _, err := namespaces.Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := namespaces.Delete(w.ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	left, err := namespaces.Get(w.ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if left.Status.Phase != corev1.NamespaceTerminating {
		return fmt.Errorf("phase is %s", left.Status.Phase)
	}
	_, err = w.typed.CoreV1().ConfigMaps(name).Create(w.ctx, configMap("late", nil), metav1.CreateOptions{})
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) && !apierrors.IsNotFound(err) {
		return fmt.Errorf("created in a namespace that ends: %v", err)
	}
	if left, err = namespaces.Get(w.ctx, name, metav1.GetOptions{}); err == nil {
		left.Spec.Finalizers = nil
		_, err = namespaces.Finalize(w.ctx, left, metav1.UpdateOptions{})
	}
	return must(err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err), "%v", err)
}
