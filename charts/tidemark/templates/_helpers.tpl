{{/* Name of the Deployment, and what the other names are made of. */}}
{{- define "tidemark.fullname" -}}
{{- $name := default "tidemark-operator" .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if or (contains $name .Release.Name) (eq .Release.Name "tidemark") -}}
{{- ternary $name (.Release.Name | trunc 52 | trimSuffix "-") (eq .Release.Name "tidemark") -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tidemark.selectorLabels" -}}
app.kubernetes.io/name: tidemark-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tidemark.labels" -}}
{{ include "tidemark.selectorLabels" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "tidemark.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tidemark.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tidemark.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* The subject of every binding. */}}
{{- define "tidemark.subjects" -}}
subjects:
- kind: ServiceAccount
  name: {{ include "tidemark.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/*
The operator's rights, from files/rbac.yaml: those on the Lease, which are needed in the release's namespace only
("lease"), or all others ("work").
*/}}
{{- define "tidemark.rules" -}}
{{- range (.root.Files.Get "files/rbac.yaml" | fromYaml).rules }}
{{- if eq (has "leases" .resources) (eq $.which "lease") }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Plural names of all kinds, from the definitions' file names. */}}
{{- define "tidemark.kinds" -}}
{{- $kinds := list -}}
{{- range $path, $_ := .Files.Glob "files/crds/*.yaml" -}}
{{- $kinds = append $kinds (base $path | splitList "." | first) -}}
{{- end -}}
{{- $kinds | sortAlpha | toJson -}}
{{- end -}}
