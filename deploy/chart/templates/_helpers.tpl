{{/* A registry and a repository in it. The repository may begin with a registry, as image names do: with a name that has a
dot or a port, or with localhost. Takes a list: the root, an image's values. */}}
{{- define "migration-gate.repository" -}}
{{- $root := index . 0 }}{{ $image := index . 1 -}}
{{- $named := regexFind "^(localhost|[^/]*[.:][^/]*)/" $image.repository -}}
{{- $registry := ($root.Values.global).imageRegistry | default $image.registry | default (trimSuffix "/" $named) -}}
{{- with $registry }}{{ . }}/{{ end }}{{ trimPrefix $named $image.repository }}
{{- end -}}

{{/* The image, by digest if there is one. */}}
{{- define "migration-gate.image" -}}
{{- $repository := include "migration-gate.repository" (list . .Values.image) -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The labels of every object. Takes a list: the root, the part that the object belongs to. */}}
{{- define "migration-gate.labels" -}}
{{- $root := index . 0 }}{{ $component := index . 1 -}}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ $component }}
app.kubernetes.io/part-of: migration-gate
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The Secret with the webhook's certificate. */}}
{{- define "migration-gate.secret" -}}
{{- if .Values.tls.certManager.enabled -}}
migration-gate-webhook-tls
{{- else -}}
{{ required "tls.existingSecret: the name of a Secret of type kubernetes.io/tls is needed where tls.certManager.enabled is false" .Values.tls.existingSecret }}
{{- end -}}
{{- end -}}

{{/* Who signs certificates. */}}
{{- define "migration-gate.issuer" -}}
{{- .Values.tls.certManager.issuerRef | default (dict "kind" "Issuer" "name" "migration-gate-ca") | toYaml }}
{{- end -}}

{{/* The name of a program's service account. Takes a list: the root, the program. */}}
{{- define "migration-gate.account" -}}
{{- $root := index . 0 }}{{ $program := index . 1 -}}
{{- $account := (get $root.Values $program).serviceAccount -}}
{{- if $account.create -}}
{{ $account.name | default (printf "migration-gate-%s" $program) }}
{{- else -}}
{{ required (printf "%s.serviceAccount.name: the name of yours is needed where %s.serviceAccount.create is false" $program $program) $account.name }}
{{- end -}}
{{- end -}}

{{/* A program's service account. Takes a list: the root, the program. */}}
{{- define "migration-gate.serviceAccount" -}}
{{- $root := index . 0 }}{{ $program := index . 1 -}}
{{- $account := (get $root.Values $program).serviceAccount -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "migration-gate.account" . }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{ include "migration-gate.labels" . | nindent 4 }}
  {{- with $account.annotations }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* What both programs' pods have in common. Takes a list: the root, the program. */}}
{{- define "migration-gate.pod" -}}
{{- $root := index . 0 }}{{ $program := index . 1 }}{{ $values := get $root.Values $program -}}
{{- $selector := dict "matchLabels" (dict "app.kubernetes.io/name" (printf "migration-gate-%s" $program)) -}}
{{- $affinity := deepCopy $values.affinity -}}
{{- if not (hasKey $affinity "podAntiAffinity") -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" $selector -}}
{{- $preferred := list (dict "weight" 100 "podAffinityTerm" $term) -}}
{{- $_ := set $affinity "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" $preferred) -}}
{{- end -}}
{{- $zones := dict "maxSkew" 1 "topologyKey" "topology.kubernetes.io/zone" "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" $selector -}}
serviceAccountName: {{ include "migration-gate.account" . }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
enableServiceLinks: false
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
terminationGracePeriodSeconds: 30
{{- with $root.Values.podSecurityContext }}
securityContext: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
affinity: {{ toYaml $affinity | nindent 2 }}
topologySpreadConstraints: {{ $values.topologySpreadConstraints | default (list $zones) | toYaml | nindent 2 }}
{{- end -}}

{{/* What both containers have in common. Takes a list: the root, the program, the environment that the chart gives it. */}}
{{- define "migration-gate.container" -}}
{{- $root := index . 0 }}{{ $program := index . 1 }}{{ $given := index . 2 | fromYamlArray }}{{ $values := get $root.Values $program -}}
{{- if ne $root.Values.log.level "info" -}}
{{- $given = append $given (dict "name" "MIGRATION_GATE_LOG_LEVEL" "value" $root.Values.log.level) -}}
{{- end -}}
{{- if ne $root.Values.log.format "json" -}}
{{- $given = append $given (dict "name" "MIGRATION_GATE_LOG_FORMAT" "value" $root.Values.log.format) -}}
{{- end -}}
{{- /* A variable that is there twice is refused by a server-side apply, which Helm does. */ -}}
{{- $replaced := list }}{{ range $values.extraEnv }}{{ $replaced = append $replaced .name }}{{ end -}}
{{- $env := list -}}
{{- range $given }}{{ if not (has .name $replaced) }}{{ $env = append $env . }}{{ end }}{{ end -}}
image: {{ include "migration-gate.image" $root }}
{{- with $root.Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
args: {{ concat (list $program) $values.extraArgs | toJson }}
env: {{ concat $env $values.extraEnv | toYaml | nindent 2 }}
readinessProbe:
  httpGet:
    path: /readyz
    port: health
  periodSeconds: 2
  failureThreshold: 1
livenessProbe:
  httpGet:
    path: /healthz
    port: health
  periodSeconds: 10
  timeoutSeconds: 5
resources: {{ toYaml $values.resources | nindent 2 }}
{{- with $root.Values.containerSecurityContext }}
securityContext: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Labels of a program's pods. Takes a list: the root, the program. */}}
{{- define "migration-gate.podLabels" -}}
{{- $root := index . 0 }}{{ $program := index . 1 -}}
app.kubernetes.io/name: migration-gate-{{ $program }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ $program }}
app.kubernetes.io/part-of: migration-gate
{{- with (get $root.Values $program).podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Which namespaces the webhook and its policy look at. */}}
{{- define "migration-gate.namespaceSelector" -}}
matchLabels:
  migration-gate.dev/inject: enabled
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{ append .Values.webhook.excludedNamespaces .Release.Namespace | toJson }}
{{- with .Values.webhook.namespaceSelector }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end -}}
