# Runs suites and adds up their results. tests/run sources it.
#
# A suite is a command that leaves JUnit XML in PAPO_RESULTS, a folder (results.py), or whose output says how many tests
# passed and failed (count.awk). A suite counts as failed if it exits with a status other than 0 although no test failed, or if it
# reports no tests, so that a suite that cannot start does not look like one without tests. A check is a command that is one test. A
# preparation counts only if it fails.

logs=${PAPO_TEST_LOGS:-$PWD/target/test-logs}
passed=0 failed=0 failures=() suite_pid= rabbitmq_handle=
mkdir -p "$logs"

say() { echo "papo: $*"; }
verbose() { [ -n "${PAPO_VERBOSE:-}${CI:-}" ]; }

suite() { # NAME LIMIT COMMAND...
    local counted
    export PAPO_RESULTS=$logs/$1.results
    rm -rf "$PAPO_RESULTS" && mkdir "$PAPO_RESULTS"
    run_limited "$@"
    read -r counted suite_passed suite_failed suite_skipped < <(
        if [ -n "$(ls "$PAPO_RESULTS")" ]; then tests/lib/results.py count "$PAPO_RESULTS"; else awk -f tests/lib/count.awk "$log"; fi
    )
    unset PAPO_RESULTS
    if [ "${counted:-0}" = 0 ]; then
        suite_failed=1
        say "$1: the suite reported no tests; read $log"
    elif [ $status != 0 ] && [ "$suite_failed" = 0 ]; then
        suite_failed=1
        say "$1: exited with status $status although no test failed"
    fi
    report "$1"
}

check() { # NAME LIMIT COMMAND...
    run_limited "$@"
    suite_skipped=0
    if [ $status = 0 ]; then suite_passed=1 suite_failed=0; else suite_passed=0 suite_failed=1; fi
    report "$1"
}

preparation() { # NAME LIMIT COMMAND...
    run_limited "$@"
    [ $status != 0 ] || { say "$1: done ($((SECONDS - begun)) s)"; return; }
    suite_passed=0 suite_failed=1 suite_skipped=0
    report "$1"
}

report() { # NAME
    passed=$((passed + suite_passed)) failed=$((failed + suite_failed))
    if [ "$suite_failed" != 0 ]; then
        verbose || tail -n 60 "$log" | sed 's/^/    /'
        failures+=("$1")
    fi
    local skipped=
    [ "$suite_skipped" = 0 ] || skipped=", $suite_skipped skipped"
    say "$1: $suite_passed passed, $suite_failed failed$skipped ($((SECONDS - begun)) s; $log)"
}

# Runs COMMAND (a program or a function of setup.sh) for at most LIMIT, in a process group of its own. Sets `status`, `log` and
# `begun`.
run_limited() { # NAME LIMIT COMMAND...
    local name=$1 limit=$2 tail_pid=
    log=$logs/$1.log begun=$SECONDS status=0
    shift 2
    say "$name ..."
    [ "$(type -t "$1")" != function ] || set -- bash -c '. tests/lib/setup.sh; "$@"' "$1" "$@"
    : > "$log"
    timeout --kill-after=30 "$limit" "$@" < /dev/null >> "$log" 2>&1 &
    suite_pid=$!
    if verbose; then
        tail -n +1 -f --pid="$suite_pid" "$log" &
        tail_pid=$!
    fi
    wait "$suite_pid" || status=$?
    suite_pid=
    [ -z "$tail_pid" ] || wait "$tail_pid"
    [ $status != 124 ] || say "$name: stopped after its limit of $limit"
}

# Exports the variables of the RabbitMQ that the preparation `rabbitmq` started.
use_rabbitmq() {
    local variable
    while read -r variable; do export "${variable?}"; done < <(grep '^PAPO_TEST_' "$logs/rabbitmq.log")
    rabbitmq_handle=${PAPO_TEST_RABBITMQ_HANDLE:-}
}

leave() {
    [ -z "$suite_pid" ] || { kill -TERM "$suite_pid" && wait "$suite_pid"; } 2>/dev/null
    [ -z "$rabbitmq_handle" ] || tests/rabbitmq/rabbitmq stop "$rabbitmq_handle"
}
trap leave EXIT
trap 'exit 130' INT TERM

# Prints the failures again and the totals on the last line, and exits.
tally() {
    leave
    trap - EXIT
    local name
    for name in "${failures[@]}"; do
        say "$name failed ($logs/$name.log):"
        awk -f tests/lib/failures.awk "$logs/$name.log" | sed 's/^/    /'
        [ ! -d "$logs/$name.results" ] || tests/lib/results.py failures "$logs/$name.results" | sed 's/^/    /'
    done
    say "$passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" != 0 ]
    exit
}
