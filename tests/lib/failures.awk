# Prints what a test log says of the tests that failed: each one's line and what follows it, LINES lines at most in all.
#
# Understood: cargo's (`test … FAILED`, then `thread '…' panicked at`), TAP's (`not ok`), node's tree (✖) and python's
# (`FAILED …`). A suite around a test that failed says nothing more than the test.

BEGIN { if (!LINES) LINES = 60 }
function told(n) { following = n }

{ gsub(/\033\[[0-9;]*m/, ""); sub(/\r$/, "") }
following > 0 && (/^test .* \.\.\. / || /^ *(ok|not ok) [0-9]/ || /^ *✔/ || /^ *1\.\.[0-9]+$/) { following = 0 }
/^test .* \.\.\. FAILED$/ || /^FAILED / { told(1) }
/^thread .* panicked at / { told(8) }
/^ *not ok [0-9]+/ && !/# (SKIP|TODO)/ { told(20) }
/^ *✖ / && !/^ *✖ failing tests/ { told(12) }
/^error(\[E[0-9]+\])?: / { told(8) }
/^papo: [a-z-]+: (no count of tests|ended )/ { told(1) }
following > 0 && printed < LINES { print substr($0, 1, 300); printed++; following-- }
