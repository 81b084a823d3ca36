# Prints what cargo says of tests that failed (`test … FAILED`, then `thread '…' panicked at`) and of code that does not
# compile, and of checks that print `FAILED: NAME`: each one's line and what follows it, LINES lines at most in all.

BEGIN { if (!LINES) LINES = 60 }
function show(n) { following = n }

following > 0 && /^test .* \.\.\. / { following = 0 }
/^test .* \.\.\. FAILED$/ { show(1) }
/^thread .* panicked at / || /^FAILED: / { show(8) }
/^error(\[E[0-9]+\])?: / { show(8) }
following > 0 && printed < LINES { print substr($0, 1, 300); printed++; following-- }
