{{/*
What the operator may do, and no more; docs/explanation/operator-rights.md says why, rule by rule.
These hold in every namespace that is looked after.
*/}}
{{- define "hardstorage.rights" -}}
- apiGroups: [hardstorage.dev]
  resources: [hsrepositories, hsdeployments, hsbackupschedules, hsbackups, hsrestores]
  verbs: [get, list, watch, patch]
- apiGroups: [hardstorage.dev]
  resources: [hsbackups]
  verbs: [create, delete]
- apiGroups: [hardstorage.dev]
  resources: [hsrepositories/status, hsdeployments/status, hsbackupschedules/status, hsbackups/status, hsrestores/status]
  verbs: [patch]
- apiGroups: [hardstorage.dev]
  resources: [hsrepositories/finalizers, hsdeployments/finalizers, hsbackupschedules/finalizers, hsbackups/finalizers, hsrestores/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get, list, watch]
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, create, delete]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
- apiGroups: [postgresql.cnpg.io]
  resources: [clusters]
  verbs: [get, list, create]
{{- if .Values.patroni.patchConfig }}
- apiGroups: [""]
  resources: [endpoints]
  verbs: [get, patch]
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
  verbs: [get, list, watch]
{{- end }}
{{- end -}}
