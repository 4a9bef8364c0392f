{{/* What all objects are called, and what tells them from others. */}}
{{- define "dirty.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "dirty.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "dirty.labels" -}}
{{ include "dirty.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What a container must not: the "restricted" pod security standard. */}}
{{- define "dirty.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Seconds for the calls that run when dirtyd is told to end. */}}
{{- define "dirty.grace" -}}
{{- $grace := .Values.config.graceful_timeout | default "30s" | toString -}}
{{- if not (regexMatch "^[0-9]+s?$" $grace) -}}
{{- fail "config.graceful_timeout: give seconds, such as 30s; the pod's grace period is computed from it" -}}
{{- end -}}
{{- trimSuffix "s" $grace -}}
{{- end }}

{{/* dirtyd's container: an init container that stays, or a second one. */}}
{{- define "dirty.dirtyd" -}}
- name: dirtyd
  image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  {{- if .Values.nativeSidecar }}
  restartPolicy: Always
  {{- else }}
  # web is told to end at the same time: stay until it is through.
  lifecycle:
    preStop:
      exec:
        command: [sleep, {{ add .Values.web.preStopSeconds .Values.web.graceSeconds | quote }}]
  {{- end }}
  securityContext:
    runAsUser: 10001
    runAsGroup: 10001
    {{- include "dirty.restricted" . | nindent 4 }}
  startupProbe:
    exec:
      command: [dirtyctl, health]
    periodSeconds: 2
    timeoutSeconds: 5
    failureThreshold: {{ div (add .Values.dirtyd.startSeconds 1) 2 }}
  readinessProbe:
    exec:
      command: [dirtyctl, health]
    periodSeconds: 5
    timeoutSeconds: 5
  livenessProbe:
    exec:
      command: [dirtyctl, health, --live]
    periodSeconds: 10
    timeoutSeconds: 5
  {{- if .Values.dirtyd.metricsPort }}
  ports:
    - name: metrics
      containerPort: {{ .Values.dirtyd.metricsPort }}
  {{- end }}
  resources:
    {{- toYaml .Values.dirtyd.resources | nindent 4 }}
  volumeMounts:
    - name: run
      mountPath: /run
    - name: dirtyd-tmp
      mountPath: /tmp
    - name: config
      mountPath: /etc/dirty
      readOnly: true
{{- end }}
