package main

import (
	"context"
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var siteVersion = schema.GroupVersion{Group: "tests.kajitori.dev", Version: "v1"}

// Site is what users of this operator write: a message that a Deployment shows.
type Site struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              SiteSpec   `json:"spec,omitempty"`
	Status            SiteStatus `json:"status,omitempty"`
}

type SiteSpec struct {
	Message  string `json:"message,omitempty"`
	Replicas int32  `json:"replicas,omitempty"`
}

type SiteStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
	// Woken is the version of the Secret of the site's name, of which only metadata is watched.
	Woken string `json:"woken,omitempty"`
}

type SiteList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Site `json:"items"`
}

func copied[T any](from *T) *T {
	to := new(T)
	text, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		panic(err)
	}
	return to
}

func (s *Site) DeepCopyObject() runtime.Object     { return copied(s) }
func (s *SiteList) DeepCopyObject() runtime.Object { return copied(s) }

func addSites(scheme *runtime.Scheme) {
	scheme.AddKnownTypes(siteVersion, &Site{}, &SiteList{})
	metav1.AddToGroupVersion(scheme, siteVersion)
}

// defineSites applies the definition of sites and waits until they are served.
func defineSites(ctx context.Context, c client.Client) error {
	text := map[string]any{"type": "string"}
	number := map[string]any{"type": "integer"}
	open := map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
	properties := map[string]any{
		"spec":   map[string]any{"type": "object", "properties": map[string]any{"message": text, "replicas": number}},
		"status": open,
	}
	definition := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "sites." + siteVersion.Group},
		"spec": map[string]any{
			"group": siteVersion.Group, "scope": "Namespaced",
			"names": map[string]any{"plural": "sites", "singular": "site", "kind": "Site", "listKind": "SiteList"},
			"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true,
				"subresources": map[string]any{"status": map[string]any{}},
				"schema":       map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "properties": properties}}}},
		},
	}}
	if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(definition), client.FieldOwner("manager")); err != nil {
		return err
	}
	return eventually(ctx, "sites are served", func() bool { return c.List(ctx, &SiteList{}) == nil })
}
