# Prints `COUNTED PASSED FAILED SKIPPED` for the log of a suite without JUnit XML: cargo's, whose JSON output is unstable, and suites
# whose last line is `N passed, M failed[, S skipped]`. COUNTED is 0 if the log has neither.

function number_before(word,    at, fields, n, i) {
    n = split($0, fields, /[ ,;=]+/)
    for (i = 2; i <= n; i++) if (fields[i] ~ "^" word) return fields[i - 1] + 0
    return 0
}
function add(p, f, s) { passed += p; failed += f; skipped += s; counted = 1 }

NF { last = $0 }
/^test result: / { add(number_before("passed"), number_before("failed"), number_before("ignored")) }
END {
    $0 = last
    if (last ~ /^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/) {
        passed = failed = skipped = 0
        add(number_before("passed"), number_before("failed"), number_before("skipped"))
    }
    print counted + 0, passed + 0, failed + 0, skipped + 0
}
