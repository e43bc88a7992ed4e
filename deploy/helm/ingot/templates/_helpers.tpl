{{- define "ingot.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ingot.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ingot.labels" -}}
{{ include "ingot.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "ingot.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* What every container has in its environment. */ -}}
{{- define "ingot.environment" -}}
- name: INGOT_REDIS_URL_FILE
  value: /run/ingot/redis-url
- name: INGOT_S3_ENDPOINT
  value: {{ required "s3.endpoint is needed: HOST:PORT of the S3 server." .Values.s3.endpoint | quote }}
- name: INGOT_S3_SECURE
  value: {{ ternary "on" "off" .Values.s3.secure | quote }}
{{- if .Values.s3.existingSecret }}
- name: INGOT_S3_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.s3.existingSecret }}
      key: {{ .Values.s3.accessKeyKey }}
- name: INGOT_S3_SECRET_KEY_FILE
  value: /run/ingot/s3-secret-key
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{- /* The Secrets that every container reads as files. */ -}}
{{- define "ingot.secrets" -}}
- secret:
    name: {{ required "redis.existingSecret is needed: a Secret with the URL of Redis." .Values.redis.existingSecret }}
    items:
      - key: {{ .Values.redis.key }}
        path: redis-url
{{- if .Values.s3.existingSecret }}
- secret:
    name: {{ .Values.s3.existingSecret }}
    items:
      - key: {{ .Values.s3.secretKeyKey }}
        path: s3-secret-key
{{- end }}
{{- end -}}

{{- define "ingot.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "ingot.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* Whether the process lives. It does not depend on Redis and S3, so no pod restarts because one of them is away. */ -}}
{{- define "ingot.liveness" -}}
exec:
  command: [ingot-server, health, --live]
initialDelaySeconds: 30
periodSeconds: 30
timeoutSeconds: 10
failureThreshold: 3
{{- end -}}

{{- define "ingot.pod" -}}
serviceAccountName: {{ include "ingot.name" . }}
automountServiceAccountToken: false
# Kubernetes would set INGOT_PORT and others.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "ingot.podSecurity" . | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
