package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
)

func oneOfThreeLeadsAndAnotherTakesOver(w *world) error {
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	var leading atomic.Int32
	started := make(chan string, 8)
	cancels := map[string]context.CancelFunc{}
	for _, name := range []string{"a", "b", "c"} {
		candidate, cancel := context.WithCancel(ctx)
		cancels[name] = cancel
		lock := &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Name: "leader", Namespace: w.namespace}, Client: w.typed.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: name}}
		go leaderelection.RunOrDie(candidate, leaderelection.LeaderElectionConfig{Lock: lock, ReleaseOnCancel: true,
			LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 200 * time.Millisecond,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { leading.Add(1); started <- name },
				OnStoppedLeading: func() { leading.Add(-1) },
			}})
	}
	for range 3 {
		select {
		case leader := <-started:
			if leading.Load() > 1 {
				return errors.New("two lead")
			}
			lease, err := w.typed.CoordinationV1().Leases(w.namespace).Get(ctx, "leader", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if *lease.Spec.HolderIdentity != leader || lease.Spec.RenewTime.IsZero() {
				return fmt.Errorf("lease: %+v", lease.Spec)
			}
			if err = eventually(ctx, "the leader renews its lease", func() bool {
				now, err := w.typed.CoordinationV1().Leases(w.namespace).Get(ctx, "leader", metav1.GetOptions{})
				return err == nil && now.Spec.RenewTime.After(lease.Spec.RenewTime.Time)
			}); err != nil {
				return err
			}
			cancels[leader]()
		case <-time.After(20 * time.Second):
			return errors.New("nobody leads")
		}
	}
	return nil
}

func recordersWriteEvents(w *world) error {
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	about, err := w.typed.CoreV1().ConfigMaps(w.namespace).Create(ctx, configMap("subject", nil), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	about.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	oldStyle := record.NewBroadcaster()
	defer oldStyle.Shutdown()
	oldStyle.StartRecordingToSink(&clientv1Sink{w})
	old := oldStyle.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "go"})
	for range 3 {
		old.Eventf(about, corev1.EventTypeWarning, "Old", "said %s", "thrice")
	}
	newStyle := events.NewBroadcaster(&events.EventSinkImpl{Interface: w.typed.EventsV1()})
	defer newStyle.Shutdown()
	if err = newStyle.StartRecordingToSinkWithContext(ctx); err != nil {
		return err
	}
	newStyle.NewRecorder(scheme.Scheme, "kajitori.dev/go").Eventf(about, nil, corev1.EventTypeNormal, "New", "Testing", "said once")
	return eventually(ctx, "both events are there in both groups", func() bool {
		core, err := w.typed.CoreV1().Events(w.namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=subject,involvedObject.uid=" + string(about.UID)})
		if err != nil {
			return false
		}
		thrice := false
		for _, event := range core.Items {
			thrice = thrice || event.Reason == "Old" && event.Count == 3
		}
		newer, err := w.typed.EventsV1().Events(w.namespace).List(ctx, metav1.ListOptions{FieldSelector: "regarding.name=subject"})
		return err == nil && thrice && len(core.Items) == 2 && len(newer.Items) == 2
	})
}

type clientv1Sink struct{ w *world }

func (s *clientv1Sink) Create(event *corev1.Event) (*corev1.Event, error) {
	return s.w.typed.CoreV1().Events(s.w.namespace).CreateWithEventNamespaceWithContext(s.w.ctx, event)
}
func (s *clientv1Sink) Update(event *corev1.Event) (*corev1.Event, error) {
	return s.w.typed.CoreV1().Events(s.w.namespace).UpdateWithEventNamespaceWithContext(s.w.ctx, event)
}
func (s *clientv1Sink) Patch(event *corev1.Event, data []byte) (*corev1.Event, error) {
	return s.w.typed.CoreV1().Events(s.w.namespace).PatchWithEventNamespaceWithContext(s.w.ctx, event, data)
}
