# Sourced by quickstart and test. Needs LOGS (a folder for logs).

# step WHAT LOG COMMAND...: runs a command, its output into $LOGS/LOG.log. Says WHAT it does and, while that lasts, how
# far it is: on a terminal on one line, else every 30 s. Returns the command's exit code; after a failure the end of the
# log is shown. Runs it in a process group of its own, STEP_PID while it lasts, for stop_step.
step() {
  local what=$1 log="$LOGS/$2.log" start=$SECONDS said=0 code=0
  shift 2
  set -m
  "$@" > "$log" 2>&1 < /dev/null &
  STEP_PID=$!
  set +m
  while kill -0 "$STEP_PID" 2> /dev/null; do
    # Ninja counts as [12/345], ctest as 12/345.
    local far
    far=$(tail -c 4000 "$log" 2> /dev/null | tr '\r' '\n' | grep -aoE '^ *\[?[0-9]+/[0-9]+' | tail -1 | tr -d ' [' || true)
    if [[ -t 1 ]]; then
      printf '\r\033[K  %s ... %s %d s' "$what" "$far" $((SECONDS - start))
    elif ((SECONDS - start >= said + 30)); then
      said=$((SECONDS - start))
      printf '  %s ... %s %d s\n' "$what" "$far" "$said"
    fi
    sleep 0.3
  done
  wait "$STEP_PID" || code=$?
  STEP_PID=
  [[ -t 1 ]] && printf '\r\033[K'
  if ((code == 0)); then
    printf '  %s: done, %d s\n' "$what" $((SECONDS - start))
  else
    printf '  %s: FAILED after %d s (exit code %d)\n' "$what" $((SECONDS - start)) "$code"
    local shown=${STEP_LINES:-40}
    echo "  --- the last $shown lines of ${log#"$ROOT"/}:"
    tail -n "$shown" "$log" | sed 's/^/  | /'
  fi
  return "$code"
}

# Ends the step that is running, with all its children: for traps.
stop_step() {
  [[ -z ${STEP_PID:-} ]] || kill -TERM -- "-$STEP_PID" 2> /dev/null || true
  STEP_PID=
}
