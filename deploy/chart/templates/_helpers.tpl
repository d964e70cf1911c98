{{/* The image, by digest if there is one. */}}
{{- define "migration-gate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The labels of every object. */}}
{{- define "migration-gate.labels" -}}
app.kubernetes.io/part-of: migration-gate
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.commonLabels }}
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

{{/* What both programs' pods have in common. Takes a list: the root, the program's name, its values. */}}
{{- define "migration-gate.pod" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}{{ $values := index . 2 -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
enableServiceLinks: false
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
terminationGracePeriodSeconds: 30
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with $values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              app.kubernetes.io/name: {{ $name }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        app.kubernetes.io/name: {{ $name }}
{{- end -}}

{{/* What both containers have in common. */}}
{{- define "migration-gate.container" -}}
{{- $root := index . 0 }}{{ $values := index . 1 -}}
image: {{ include "migration-gate.image" $root }}
{{- with $root.Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
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
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* Labels of a program's pods. */}}
{{- define "migration-gate.podLabels" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}{{ $values := index . 2 -}}
app.kubernetes.io/name: {{ $name }}
app.kubernetes.io/part-of: migration-gate
{{- with $values.podLabels }}
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
