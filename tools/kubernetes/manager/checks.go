package main

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func (w *world) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: w.namespace, Name: name}
}

func (w *world) named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: w.namespace, Name: name}
}

// settled waits until the site's status speaks of its present generation and says Ready.
func (w *world) settled(name string) (*Site, error) {
	site := &Site{}
	return site, eventually(w.ctx, name+" is ready", func() bool {
		return w.direct.Get(w.ctx, w.key(name), site) == nil && site.Status.ObservedGeneration == site.Generation &&
			meta.IsStatusConditionTrue(site.Status.Conditions, "Ready")
	})
}

func (w *world) message(name string) string {
	found := &corev1.ConfigMap{}
	if w.direct.Get(w.ctx, w.key(name), found) != nil {
		return ""
	}
	return found.Data["message"]
}

func oneOfTwoLeads(w *world) error {
	var err error
	if w.first, err = w.startManager(); err != nil {
		return err
	}
	if err = eventually(w.ctx, "the first leads", w.first.leads); err != nil {
		return err
	}
	if w.second, err = w.startManager(); err != nil {
		return err
	}
	if !w.second.manager.GetCache().WaitForCacheSync(w.ctx) {
		return fmt.Errorf("the second's cache does not sync")
	}
	return must(!w.second.leads(), "both lead")
}

func aSiteGetsWhatItOwns(w *world) error {
	site := &Site{ObjectMeta: w.named("one"), Spec: SiteSpec{Message: "hello"}}
	if err := w.direct.Create(w.ctx, site); err != nil {
		return err
	}
	settled, err := w.settled("one")
	if err != nil {
		return err
	}
	deployment := &appsv1.Deployment{}
	if err := w.direct.Get(w.ctx, w.key("one"), deployment); err != nil {
		return err
	}
	return must(w.message("one") == "hello" && metav1.IsControlledBy(deployment, settled) && settled.Finalizers[0] == finalizer,
		"%q, owners %v", w.message("one"), deployment.OwnerReferences)
}

func anEventNamesWhatWasMade(w *world) error {
	return eventually(w.ctx, "the event is there", func() bool {
		found := &eventsv1.EventList{}
		if w.direct.List(w.ctx, found, client.InNamespace(w.namespace)) != nil {
			return false
		}
		for _, each := range found.Items {
			if each.Reason == "Deployed" && each.Regarding.Name == "one" && each.Related.Kind == "Deployment" && each.Note == "made one" {
				return true
			}
		}
		return false
	})
}

func aSettledSiteIsLeftAlone(w *world) error {
	site, err := w.settled("one")
	if err != nil {
		return err
	}
	// Another site's story is long enough for an endless loop to show.
	if err := w.direct.Create(w.ctx, &Site{ObjectMeta: w.named("other"), Spec: SiteSpec{Message: "x"}}); err != nil {
		return err
	}
	if _, err := w.settled("other"); err != nil {
		return err
	}
	now := &Site{}
	if err := w.direct.Get(w.ctx, w.key("one"), now); err != nil {
		return err
	}
	return must(now.ResourceVersion == site.ResourceVersion && w.first.reconciler.rounds.Load() < 40,
		"%s became %s in %d rounds", site.ResourceVersion, now.ResourceVersion, w.first.reconciler.rounds.Load())
}

func aChangeReachesWhatIsOwned(w *world) error {
	site := &Site{}
	if err := w.direct.Get(w.ctx, w.key("one"), site); err != nil {
		return err
	}
	before := copied(site)
	site.Spec.Message = "changed"
	if err := w.direct.Patch(w.ctx, site, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return err
	}
	if err := eventually(w.ctx, "the message is new", func() bool { return w.message("one") == "changed" }); err != nil {
		return err
	}
	now, err := w.settled("one")
	if err != nil {
		return err
	}
	return must(now.Generation == before.Generation+1, "generation %d after %d", now.Generation, before.Generation)
}

func whatIsDeletedComesBack(w *world) error {
	for _, gone := range []client.Object{&corev1.ConfigMap{ObjectMeta: w.named("one")}, &appsv1.Deployment{ObjectMeta: w.named("one")}} {
		if err := w.direct.Get(w.ctx, w.key("one"), gone); err != nil {
			return err
		}
		uid := gone.GetUID()
		if err := w.direct.Delete(w.ctx, gone, client.Preconditions{UID: &uid}); err != nil {
			return err
		}
		if err := eventually(w.ctx, fmt.Sprintf("%T is back", gone), func() bool {
			return w.direct.Get(w.ctx, w.key("one"), gone) == nil && gone.GetUID() != uid
		}); err != nil {
			return err
		}
	}
	return nil
}

func anIndexFindsSites(w *world) error {
	found := &SiteList{}
	if err := w.first.manager.GetClient().List(w.ctx, found, client.MatchingFields{messageIndex: "changed"}); err != nil {
		return err
	}
	return must(len(found.Items) == 1 && found.Items[0].Name == "one", "found %d", len(found.Items))
}

func metadataWakesASite(w *world) error {
	secret := &corev1.Secret{ObjectMeta: w.named("one"), StringData: map[string]string{"a": "b"}}
	secret.Labels = map[string]string{"wake": "up"}
	if err := w.direct.Create(w.ctx, secret); err != nil {
		return err
	}
	return eventually(w.ctx, "the site is woken", func() bool {
		site := &Site{}
		return w.direct.Get(w.ctx, w.key("one"), site) == nil && site.Status.Woken == "up"
	})
}

func anOldVersionConflicts(w *world) error {
	site := &Site{}
	if err := w.direct.Get(w.ctx, w.key("other"), site); err != nil {
		return err
	}
	old := copied(site)
	site.Labels = map[string]string{"a": "b"}
	if err := w.direct.Update(w.ctx, site); err != nil {
		return err
	}
	old.Spec.Message = "late"
	err := w.direct.Update(w.ctx, old)
	return must(apierrors.IsConflict(err), "no conflict: %v", err)
}

func aDryRunChangesNothing(w *world) error {
	made := &corev1.ConfigMap{ObjectMeta: w.named("dry")}
	if err := client.NewDryRunClient(w.direct).Create(w.ctx, made); err != nil {
		return err
	}
	err := w.direct.Get(w.ctx, w.key("dry"), made)
	return must(apierrors.IsNotFound(err), "it is there: %v", err)
}

func theFinalizerRuns(w *world) error {
	if err := w.direct.Delete(w.ctx, &Site{ObjectMeta: w.named("one")}); err != nil {
		return err
	}
	if err := eventually(w.ctx, "the site is gone", func() bool {
		return apierrors.IsNotFound(w.direct.Get(w.ctx, w.key("one"), &Site{}))
	}); err != nil {
		return err
	}
	if err := w.direct.Get(w.ctx, w.key("one-was-here"), &corev1.ConfigMap{}); err != nil {
		return err
	}
	// A real garbage collector looks for new kinds every half minute.
	return within(w.ctx, 90*time.Second, "what it owned is gone", func() bool {
		return apierrors.IsNotFound(w.direct.Get(w.ctx, w.key("one"), &appsv1.Deployment{})) && w.message("one") == ""
	})
}

func theOtherTakesOver(w *world) error {
	w.first.stop()
	if err := <-w.first.ended; err != nil {
		return err
	}
	if err := eventually(w.ctx, "the second leads", w.second.leads); err != nil {
		return err
	}
	if err := w.direct.Create(w.ctx, &Site{ObjectMeta: w.named("late"), Spec: SiteSpec{Message: "late"}}); err != nil {
		return err
	}
	if _, err := w.settled("late"); err != nil {
		return err
	}
	for _, name := range []string{"late", "other"} {
		if err := w.direct.Delete(w.ctx, &Site{ObjectMeta: w.named(name)}); err != nil {
			return err
		}
	}
	return eventually(w.ctx, "no site is left", func() bool {
		left := &SiteList{}
		return w.direct.List(w.ctx, left, client.InNamespace(w.namespace)) == nil && len(left.Items) == 0
	})
}
