package main

import (
	"context"
	"sync/atomic"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	finalizer    = "tests.kajitori.dev/farewell"
	messageIndex = "spec.message"
)

// reconciler gives each site a ConfigMap (by apply) and a Deployment (by update), and says so in its status.
type reconciler struct {
	client.Client
	recorder events.EventRecorder
	rounds   atomic.Int64
}

func (r *reconciler) setup(ctx context.Context, mgr ctrl.Manager) error {
	r.Client, r.recorder = mgr.GetClient(), mgr.GetEventRecorder("sites")
	index := func(o client.Object) []string { return []string{o.(*Site).Spec.Message} }
	if err := mgr.GetFieldIndexer().IndexField(ctx, &Site{}, messageIndex, index); err != nil {
		return err
	}
	sameName := func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(o)}}
	}
	skip := true
	return ctrl.NewControllerManagedBy(mgr).
		For(&Site{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&corev1.ConfigMap{}).
		Owns(&appsv1.Deployment{}).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(sameName)).
		WithOptions(controller.Options{SkipNameValidation: &skip}).
		Complete(r)
}

func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	r.rounds.Add(1)
	site := &Site{}
	if err := r.Get(ctx, request.NamespacedName, site); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !site.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, r.farewell(ctx, site)
	}
	if controllerutil.AddFinalizer(site, finalizer) {
		if err := r.Update(ctx, site); err != nil {
			return reconcile.Result{}, err
		}
	}
	if err := r.applyConfigMap(ctx, site); err != nil {
		return reconcile.Result{}, err
	}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: site.Name, Namespace: site.Namespace}}
	done, err := controllerutil.CreateOrUpdate(ctx, r.Client, deployment, func() error {
		labels := map[string]string{"site": site.Name}
		deployment.Spec.Replicas = &site.Spec.Replicas
		deployment.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
		deployment.Spec.Template.Labels = labels
		if len(deployment.Spec.Template.Spec.Containers) == 0 {
			deployment.Spec.Template.Spec.Containers = []corev1.Container{{Name: "main"}}
		}
		deployment.Spec.Template.Spec.Containers[0].Image = "busybox:1"
		return controllerutil.SetControllerReference(site, deployment, r.Scheme())
	})
	if err != nil {
		return reconcile.Result{}, err
	}
	if done == controllerutil.OperationResultCreated {
		r.recorder.Eventf(site, deployment, corev1.EventTypeNormal, "Deployed", "Deploy", "made %s", deployment.Name)
	}
	return reconcile.Result{}, r.writeStatus(ctx, site, deployment)
}

func (r *reconciler) applyConfigMap(ctx context.Context, site *Site) error {
	owner := metaapply.OwnerReference().WithAPIVersion(siteVersion.String()).WithKind("Site").WithName(site.Name).WithUID(site.UID).
		WithController(true).WithBlockOwnerDeletion(true)
	wanted := coreapply.ConfigMap(site.Name, site.Namespace).WithOwnerReferences(owner).WithData(map[string]string{"message": site.Spec.Message})
	return r.Apply(ctx, wanted, client.FieldOwner("sites"), client.ForceOwnership)
}

func (r *reconciler) writeStatus(ctx context.Context, site *Site, deployment *appsv1.Deployment) error {
	before := copied(site)
	condition := metav1.Condition{Type: "Ready", Status: metav1.ConditionFalse, Reason: "Waiting", ObservedGeneration: site.Generation}
	for _, each := range deployment.Status.Conditions {
		if each.Type == appsv1.DeploymentAvailable && each.Status == corev1.ConditionTrue && deployment.Status.ReadyReplicas == site.Spec.Replicas {
			condition.Status, condition.Reason = metav1.ConditionTrue, "Available"
		}
	}
	meta.SetStatusCondition(&site.Status.Conditions, condition)
	site.Status.ObservedGeneration = site.Generation
	secret := &metav1.PartialObjectMetadata{}
	secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	err := r.Get(ctx, client.ObjectKeyFromObject(site), secret)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	site.Status.Woken = secret.Labels["wake"]
	return r.Status().Patch(ctx, site, client.MergeFrom(before))
}

// farewell leaves a note that is nobody's, then lets the site go.
func (r *reconciler) farewell(ctx context.Context, site *Site) error {
	if !controllerutil.ContainsFinalizer(site, finalizer) {
		return nil
	}
	note := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: site.Name + "-was-here", Namespace: site.Namespace}}
	if err := r.Create(ctx, note); client.IgnoreAlreadyExists(err) != nil {
		return err
	}
	patch := client.RawPatch(types.JSONPatchType, []byte(`[{"op":"remove","path":"/metadata/finalizers/0"}]`))
	return client.IgnoreNotFound(r.Patch(ctx, site, patch))
}
