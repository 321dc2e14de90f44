{{/* Labels of every object; call with (dict "root" $ "component" "mlflow"). */}}
{{- define "zephyr.labels" -}}
{{ include "zephyr.selector" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: zephyr
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What Services select by: fixed, so that a release under another name takes the same pods over. */}}
{{- define "zephyr.selector" -}}
app.kubernetes.io/name: zephyr
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "zephyr.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "zephyr.labels" . | nindent 2 }}
{{- end }}

{{/* An image's reference; call with (dict "root" $ "image" .Values.image). */}}
{{- define "zephyr.reference" -}}
{{- with .image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "zephyr.image" -}}
image: {{ include "zephyr.reference" (dict "root" . "image" .Values.image) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- define "zephyr.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
Labels and annotations of a pod; call with (dict "root" $ "component" … "annotations" dict).
No versions: an upgrade that changes nothing else restarts nothing.
*/}}
{{- define "zephyr.podMetadata" -}}
labels:
  {{- include "zephyr.selector" . | nindent 2 }}
  app.kubernetes.io/part-of: zephyr
  {{- with .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (.annotations | default dict) .root.Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where the chart's pods run. */}}
{{- define "zephyr.placement" -}}
{{- include "zephyr.pullSecrets" . }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* The restricted Pod Security Standard. The image's user is numeric, so runAsNonRoot is checked against it. */}}
{{- define "zephyr.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "zephyr.containerSecurity" -}}
securityContext:
  runAsNonRoot: true
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* "true" or nothing; call with (dict "root" $ "switch" value "api" "group/version/Kind"). */}}
{{- define "zephyr.enabled" -}}
{{- if or (eq .switch "enabled") (and (eq .switch "auto") (.root.Capabilities.APIVersions.Has .api)) }}true{{ end }}
{{- end }}

{{- define "zephyr.pipelineResources" -}}
{{- $api := "pipelines.kubeflow.org/v2beta1/PipelineVersion" }}
{{- include "zephyr.enabled" (dict "root" . "switch" .Values.pipeline.customResource "api" $api) }}
{{- end }}

{{- define "zephyr.mlflowUrl" -}}
{{- if eq .Values.mlflow.mode "external" }}{{ .Values.mlflow.url }}
{{- else }}http://zephyr-mlflow.{{ .Release.Namespace }}.svc:5000{{ end }}
{{- end }}

{{- define "zephyr.store" -}}
{{- with .Values.s3 }}{{ if .bucket }}s3://{{ .bucket }}{{ with .prefix }}/{{ . }}{{ end }}{{ end }}{{ end }}
{{- end }}

{{- define "zephyr.makesSecret" -}}
{{- if .Values.s3.credentials.accessKeyId }}true{{ end }}
{{- end }}

{{/* What KServe's storage initializer reads on the Secret. */}}
{{- define "zephyr.s3Annotations" -}}
{{- with .Values.s3 }}
{{- if .endpoint }}
serving.kserve.io/s3-endpoint: {{ regexReplaceAll "^https?://" .endpoint "" | quote }}
serving.kserve.io/s3-usehttps: {{ ternary "1" "0" (hasPrefix "https://" .endpoint) | quote }}
{{- end }}
serving.kserve.io/s3-region: {{ .region | quote }}
serving.kserve.io/s3-verifyssl: {{ ternary "1" "0" .verifySsl | quote }}
serving.kserve.io/s3-usevirtualbucket: {{ ternary "false" "true" .pathStyle | quote }}
{{- end }}
{{- end }}

{{/* Options that need each other; the schema checks each by itself. */}}
{{- define "zephyr.check" -}}
{{- $mlflow := .Values.mlflow }}
{{- if and (eq $mlflow.mode "external") (not $mlflow.url) }}
{{- fail "mlflow.mode is external, but mlflow.url is empty: set it to the server's address" }}
{{- end }}
{{- if and $mlflow.url (ne $mlflow.mode "external") }}
{{- fail (printf "mlflow.url is set, but mlflow.mode is %s: set mlflow.mode to external" $mlflow.mode) }}
{{- end }}
{{- if and (eq $mlflow.mode "postgres") (not $mlflow.postgres.existingSecret) }}
{{- fail "mlflow.mode is postgres, but mlflow.postgres.existingSecret is empty: name the Secret with the address" }}
{{- end }}
{{- if and (eq $mlflow.artifacts "s3") (not .Values.s3.bucket) }}
{{- fail "mlflow.artifacts is s3, but s3.bucket is empty: name the bucket" }}
{{- end }}
{{- $keys := .Values.s3.credentials }}
{{- if ne (empty $keys.accessKeyId) (empty $keys.secretAccessKey) }}
{{- fail "s3.credentials has only one of accessKeyId and secretAccessKey: set both, or none" }}
{{- end }}
{{- end }}
