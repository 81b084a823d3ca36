# Prints the failures in a log: failed tests of cargo (`test … FAILED`, then `thread '…' panicked at`), compiler errors, and checks
# that print `FAILED: NAME`. Prints each failure's line and the lines after it, at most LINES lines in total.

BEGIN { if (!LINES) LINES = 60 }
function show(n) { following = n }

following > 0 && /^test .* \.\.\. / { following = 0 }
/^test .* \.\.\. FAILED$/ { show(1) }
/^thread .* panicked at / || /^FAILED: / { show(8) }
/^error(\[E[0-9]+\])?: / { show(8) }
following > 0 && printed < LINES { print substr($0, 1, 300); printed++; following-- }
