#!/bin/bash
# Runs each ring test on this kernel's own io_uring: what the tests assert has to hold there first.
#
#     tests/oracle.sh [build directory] [test...]
#
# Needs no shim and no jail. Exits with 77 where the kernel offers no io_uring, with 1 and the
# differences where a test finds the kernel to answer otherwise than it says.
set -u

build=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/build/release}
[ $# -eq 0 ] || shift
out=$(mktemp)
trap 'rm -f "$out"' EXIT
cd "$build/tests" || exit 125

[ -x ring_setup ] || { echo "oracle: build first" >&2 && exit 125; }
if ! ./ring_setup >"$out" 2>&1 && ! grep -q '  OK' "$out"; then
	echo "SKIPPED: this kernel offers no io_uring"
	exit 77
fi

differ=0
for program in ring_*; do
	[ -x "$program" ] && [ -f "$program" ] || continue
	[ $# -eq 0 ] || [[ " $* " == *" ${program#ring_} "* ]] || continue
	if timeout 240 "./$program" >"$out" 2>&1; then
		printf 'same    %s\n' "${program#ring_}"
	else
		differ=$((differ + 1))
		printf 'DIFFERS %s\n' "${program#ring_}"
		grep -E 'ERROR|LINE|FAILED|child' "$out" | sed 's/^/    /'
	fi
done
exit $((differ > 0))
