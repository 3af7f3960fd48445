// An operator of our own on controller-runtime, and what must be so while it runs: one line a check, exit code 1 if
// one failed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// world is what every check gets. direct reads from the server, the manager's client from its cache.
type world struct {
	ctx       context.Context
	config    *rest.Config
	scheme    *runtime.Scheme
	direct    client.Client
	namespace string
	first     *running
	second    *running
}

// running is one manager, its reconciler, and whether it leads.
type running struct {
	manager    ctrl.Manager
	reconciler *reconciler
	stop       context.CancelFunc
	ended      chan error
}

func (w *world) startManager() (*running, error) {
	lease, deadline, retry := 4*time.Second, 3*time.Second, 200*time.Millisecond
	manager, err := ctrl.NewManager(w.config, ctrl.Options{
		Scheme: w.scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Cache:          cache.Options{DefaultNamespaces: map[string]cache.Config{w.namespace: {}}},
		LeaderElection: true, LeaderElectionID: "sites", LeaderElectionNamespace: w.namespace, LeaderElectionReleaseOnCancel: true,
		LeaseDuration: &lease, RenewDeadline: &deadline, RetryPeriod: &retry,
	})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(w.ctx)
	started := &running{manager, &reconciler{}, stop, make(chan error, 1)}
	if err := started.reconciler.setup(ctx, manager); err != nil {
		stop()
		return nil, err
	}
	go func() { started.ended <- manager.Start(ctx) }()
	return started, nil
}

// leads tells without waiting whether a manager has been elected.
func (r *running) leads() bool {
	select {
	case <-r.manager.Elected():
		return true
	default:
		return false
	}
}

func eventually(ctx context.Context, what string, condition func() bool) error {
	return within(ctx, 20*time.Second, what, condition)
}

func within(ctx context.Context, limit time.Duration, what string, condition func() bool) error {
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, limit, true,
		func(context.Context) (bool, error) { return condition(), nil })
	if err != nil {
		return fmt.Errorf("never so: %s", what)
	}
	return nil
}

func must(condition bool, format string, arguments ...any) error {
	if condition {
		return nil
	}
	return fmt.Errorf(format, arguments...)
}

func main() {
	// controller-runtime brings -kubeconfig.
	flag.Parse()
	ctrl.SetLogger(klog.Background())
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	w, err := prepare(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	checks := []struct {
		name string
		run  func(*world) error
	}{
		{"one of two managers leads", oneOfTwoLeads},
		{"a site gets what it owns and a status", aSiteGetsWhatItOwns},
		{"an event names what was made", anEventNamesWhatWasMade},
		{"a settled site is left alone", aSettledSiteIsLeftAlone},
		{"a change reaches what is owned", aChangeReachesWhatIsOwned},
		{"what is deleted comes back", whatIsDeletedComesBack},
		{"an index finds sites", anIndexFindsSites},
		{"metadata of a secret wakes its site", metadataWakesASite},
		{"an old version conflicts", anOldVersionConflicts},
		{"a dry run changes nothing", aDryRunChangesNothing},
		{"the finalizer runs before a site goes", theFinalizerRuns},
		{"the other manager takes over", theOtherTakesOver},
	}
	failed := 0
	for _, check := range checks {
		begin := time.Now()
		if err := check.run(w); err != nil {
			failed++
			fmt.Printf("FAIL %s: %v\n", check.name, err)
			continue
		}
		fmt.Printf("ok   %s (%d ms)\n", check.name, time.Since(begin).Milliseconds())
	}
	_ = w.direct.Delete(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}})
	if failed > 0 {
		os.Exit(1)
	}
}

func prepare(ctx context.Context) (*world, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, err
	}
	w := &world{ctx: ctx, config: config, scheme: runtime.NewScheme(), namespace: fmt.Sprintf("manager-%d", os.Getpid())}
	if err := clientscheme.AddToScheme(w.scheme); err != nil {
		return nil, err
	}
	addSites(w.scheme)
	if w.direct, err = client.New(config, client.Options{Scheme: w.scheme}); err != nil {
		return nil, err
	}
	if err := w.direct.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}}); err != nil {
		return nil, err
	}
	return w, defineSites(ctx, w.direct)
}
