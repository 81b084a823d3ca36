# Prints `COUNTED PASSED FAILED SKIPPED` for the log of a test suite; COUNTED is 0 if nothing in it was understood.
#
# Understood: `N passed, M failed[, S skipped]` as the last line, which then counts alone; otherwise the sums of cargo's
# `test result:` lines, of node's summaries (`# pass N`, or with an i in a circle) and of pytest's last line.

function number_before(word,    at, fields, n, i) {
    n = split($0, fields, /[ ,;=]+/)
    for (i = 2; i <= n; i++) if (fields[i] ~ "^" word) return fields[i - 1] + 0
    return 0
}
function add(p, f, s) { passed += p; failed += f; skipped += s; counted = 1 }

{ gsub(/\033\[[0-9;]*m/, ""); sub(/\r$/, "") }
NF { last = $0 }
/^test result: / { add(number_before("passed"), number_before("failed"), number_before("ignored")) }
/^(#|ℹ) (pass|fail|cancelled|skipped|todo) [0-9]+$/ {
    if ($2 == "pass") add($3, 0, 0)
    else if ($2 == "fail" || $2 == "cancelled") add(0, $3, 0)
    else add(0, 0, $3)
}
/^=+ .*(passed|failed|errors?).* in [0-9.]+s.*=+$/ {
    add(number_before("passed"), number_before("failed") + number_before("error"), number_before("skipped"))
}
END {
    $0 = last
    if (last ~ /^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/) {
        passed = failed = skipped = 0
        add(number_before("passed"), number_before("failed"), number_before("skipped"))
    }
    print counted + 0, passed + 0, failed + 0, skipped + 0
}
