// The same webhook as people write it in Go: controller-runtime's server, typed objects, and a patch that is the
// difference of two JSON documents. It is here to be measured beside ours, so it does what ours does to the reviews of
// the benchmark and no more: a Deployment is injected, keeps its injection, or is refused.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const (
	domain           = "migration-gate.dev/"
	command          = domain + "command"
	gateLabel        = domain + "gate"
	migrationLabel   = domain + "migration"
	injected         = domain + "injected"
	condition        = domain + "migrated"
	installContainer = "migration-gate-install"
	migrateContainer = "migration-gate-migrate"
	volume           = "migration-gate"
	signalVolume     = "migration-gate-signal"
	path             = "/migration-gate"
	signalPath       = "/migration-gate-signal"
)

var known = map[string]bool{
	command: true, domain + "container": true, domain + "image": true, domain + "env": true,
	domain + "revision": true, domain + "identity-env": true, domain + "group": true, domain + "timeout": true,
	domain + "backoff-limit": true, domain + "suspend": true, domain + "wait-for": true, domain + "verify": true,
}

type handler struct {
	decoder admission.Decoder
	image   string
}

func (h *handler) Handle(ctx context.Context, request admission.Request) admission.Response {
	deployment := &appsv1.Deployment{}
	if err := h.decoder.Decode(request, deployment); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	for key, value := range deployment.Annotations {
		if strings.HasPrefix(key, domain) && !known[key] {
			return admission.Denied(fmt.Sprintf("%s: unknown annotation with the value %q", key, value))
		}
	}
	if request.Operation == admissionv1.Update {
		old := &appsv1.Deployment{}
		if err := h.decoder.DecodeRaw(request.OldObject, old); err != nil {
			return admission.Errored(http.StatusBadRequest, err)
		}
		if reflect.DeepEqual(old.Spec.Template, deployment.Spec.Template) {
			return admission.Allowed("")
		}
	}
	if err := h.inject(deployment); err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	changed, err := json.Marshal(deployment)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	log.FromContext(ctx).Info("injected", "namespace", request.Namespace, "name", request.Name)
	return admission.PatchResponseFromRaw(request.Object.Raw, changed)
}

func (h *handler) inject(deployment *appsv1.Deployment) error {
	template := &deployment.Spec.Template
	spec := &template.Spec
	target := spec.Containers[0].DeepCopy()
	words := strings.Fields(deployment.Annotations[command])
	identity, err := json.Marshal(map[string]any{"container": target, "volumes": spec.Volumes, "command": words})
	if err != nil {
		return err
	}
	digest := sha256.Sum256(identity)
	fingerprint := hex.EncodeToString(digest[:16])

	mount := corev1.VolumeMount{Name: volume, MountPath: path}
	install := corev1.Container{
		Name: installContainer, Image: h.image,
		Command:      []string{"/migration-gate-agent", "install", path + "/agent"},
		VolumeMounts: []corev1.VolumeMount{mount},
		Resources:    target.Resources, SecurityContext: target.SecurityContext,
	}
	migrate := corev1.Container{
		Name: migrateContainer, Image: target.Image, ImagePullPolicy: target.ImagePullPolicy,
		Command: []string{path + "/agent"}, Args: append([]string{"--"}, words...),
		Env: target.Env, EnvFrom: target.EnvFrom, WorkingDir: target.WorkingDir,
		VolumeMounts: append(target.VolumeMounts, mount,
			corev1.VolumeMount{Name: signalVolume, MountPath: signalPath, ReadOnly: true}),
		Resources: target.Resources, SecurityContext: target.SecurityContext,
		TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
	}
	spec.InitContainers = append(append([]corev1.Container{install}, spec.InitContainers...), migrate)

	file := func(path, field string) corev1.DownwardAPIVolumeFile {
		return corev1.DownwardAPIVolumeFile{
			Path: path, FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: field},
		}
	}
	mode := int32(0o644)
	spec.Volumes = append(spec.Volumes,
		corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		corev1.Volume{Name: signalVolume, VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
			DefaultMode: &mode,
			Items: []corev1.DownwardAPIVolumeFile{
				file("signal", "metadata.annotations['"+domain+"signal']"),
				file("opened", "metadata.annotations['"+domain+"opened']"),
				file("pod-uid", "metadata.uid"),
			},
		}}})
	spec.ReadinessGates = append(spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: condition})
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	if template.Annotations == nil {
		template.Annotations = map[string]string{}
	}
	template.Labels[gateLabel] = deployment.Name + ".deployment"
	template.Labels[migrationLabel] = fingerprint
	template.Annotations[injected] = `{"version":"0"}`
	return nil
}

func main() {
	host := flag.String("host", "127.0.0.1", "the address to serve on")
	port := flag.Int("port", 9443, "the port to serve on")
	tls := flag.String("tls-dir", "/tls", "the folder with tls.crt and tls.key")
	image := flag.String("agent-image", "", "the image that brings the agent")
	flag.Parse()
	log.SetLogger(zap.New())

	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, admissionv1.AddToScheme} {
		if err := add(scheme); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	server := webhook.NewServer(webhook.Options{Host: *host, Port: *port, CertDir: *tls})
	server.Register("/mutate", &webhook.Admission{
		Handler: &handler{decoder: admission.NewDecoder(scheme), image: *image},
	})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := server.Start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
