{{/*
What the operator may do, and no more; docs/explanation/operator-rights.md says why, rule by rule.
These hold in every namespace that is looked after.
*/}}
{{- define "hardstorage.rights" -}}
- apiGroups: [hardstorage.dev]
  resources: [hsrepositories, hsdeployments, hsbackupschedules, hsbackups, hsrestores]
  verbs: [get, list, watch]
- apiGroups: [hardstorage.dev]
  resources: [hsdeployments, hsbackups, hsrestores]
  verbs: [patch]
- apiGroups: [hardstorage.dev]
  resources: [hsbackups, hsrestores]
  verbs: [create, delete]
- apiGroups: [hardstorage.dev]
  resources: [hsrepositories/status, hsdeployments/status, hsbackupschedules/status, hsbackups/status, hsrestores/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, create, delete]
- apiGroups: [""]
  resources: [endpoints]
  verbs: [get]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
- apiGroups: [postgresql.cnpg.io]
  resources: [clusters]
  verbs: [get, create]
{{- if .Values.patroni.patchConfig }}
- apiGroups: [""]
  resources: [endpoints]
  verbs: [patch]
{{- end }}
{{- end -}}

{{/* What has no namespace. */}}
{{- define "hardstorage.rightsOfCluster" -}}
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames:
  - hsrepositories.hardstorage.dev
  - hsdeployments.hardstorage.dev
  - hsbackupschedules.hardstorage.dev
  - hsbackups.hardstorage.dev
  - hsrestores.hardstorage.dev
  - clusters.postgresql.cnpg.io
  verbs: [get]
{{- if not .Values.watchNamespaces }}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
{{- end }}
{{- end -}}
