{{/* Names and labels. The selector never changes: a Deployment's cannot. */}}
{{- define "hardstorage.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "hardstorage.fullname" -}}
{{- $name := include "hardstorage.name" . -}}
{{- $joined := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $joined .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "hardstorage.selector" -}}
app.kubernetes.io/name: {{ include "hardstorage.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "hardstorage.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{ include "hardstorage.selector" . }}
{{- end -}}

{{- define "hardstorage.serviceAccount" -}}
{{- $own := .Values.serviceAccount.create | ternary (include "hardstorage.fullname" .) "default" -}}
{{- default $own .Values.serviceAccount.name -}}
{{- end -}}

{{/* Who the rights are given to. */}}
{{- define "hardstorage.subject" -}}
- {kind: ServiceAccount, name: {{ include "hardstorage.serviceAccount" . }}, namespace: {{ .Release.Namespace }}}
{{- end -}}

{{/* One image, from registry, repository, and digest or tag. */}}
{{- define "hardstorage.imageName" -}}
{{- $path := empty .image.registry | ternary .image.repository (printf "%s/%s" .image.registry .image.repository) -}}
{{- if .image.digest -}}
{{ $path }}@{{ .image.digest }}
{{- else -}}
{{ $path }}:{{ default .version .image.tag }}
{{- end -}}
{{- end -}}

{{- define "hardstorage.image" -}}
{{- include "hardstorage.imageName" (dict "image" .Values.image "version" .Chart.AppVersion) -}}
{{- end -}}

{{/* A tag or digest of the operator's image says nothing of another repository's. */}}
{{- define "hardstorage.engineImage" -}}
{{- $own := .Values.engine.image -}}
{{- $image := deepCopy .Values.image -}}
{{- if or $own.registry $own.repository }}{{ $image = mergeOverwrite $image (dict "tag" "" "digest" "") }}{{ end -}}
{{- if $own.tag }}{{ $image = mergeOverwrite $image (dict "digest" "") }}{{ end -}}
{{- range $key := list "registry" "repository" "tag" "digest" -}}
{{- with index $own $key }}{{ $image = set $image $key . }}{{ end -}}
{{- end -}}
{{- include "hardstorage.imageName" (dict "image" $image "version" .Chart.AppVersion) -}}
{{- end -}}

{{- define "hardstorage.podSecurity" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "hardstorage.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
