{{- define "console.fullname" -}}
{{- if contains "console" .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-console" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "console.selector" -}}
app.kubernetes.io/name: console
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "console.labels" -}}
{{ include "console.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "console.secret" -}}
{{- .Values.config.existingSecret | default (printf "%s-platform" (include "console.fullname" .)) -}}
{{- end -}}

{{- define "console.licenseSecret" -}}
{{- .Values.config.existingLicenseSecret | default (printf "%s-license" (include "console.fullname" .)) -}}
{{- end -}}

{{- define "console.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "console.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsUser: 10001
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What is secret leaves the file, but clusters and single sign-on stay in it, as in the real chart. */}}
{{- define "console.platformConfig" -}}
{{- $config := omit .Values.config "organization" "admin" "existingSecret" "license" "existingLicenseSecret" -}}
{{- $database := omit (.Values.config.database | default dict) "url" "username" "password" -}}
{{- $sql := .Values.config.kafkasql | default dict -}}
{{- $sqlDatabase := omit ($sql.database | default dict) "url" "username" "password" -}}
{{- $kafkasql := mergeOverwrite (omit $sql "database") (ternary (dict "database" $sqlDatabase) dict (hasKey $sql "database")) -}}
{{- toYaml (mergeOverwrite (omit $config "database" "kafkasql") (dict "database" $database "kafkasql" $kafkasql)) -}}
{{- end -}}
