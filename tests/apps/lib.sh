# What the tests of real programs share. Sourced; sets build, work, tests and errno handling.
#
# Each test: `tests/apps/NAME --build DIR`. The work directory lies under the build directory and goes
# with the test, as does every process that it put into `children`.
set -u

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=
while [ $# -gt 0 ]; do
	case $1 in
	--build) build=$(cd "${2:?}" && pwd) && shift 2 ;;
	*) echo "$0: unknown argument $1" >&2 && exit 125 ;;
	esac
done
[ -r "$build/tests/shim.conf" ] || { echo "$0: no build in '$build'" >&2 && exit 125; }
# shellcheck source=/dev/null
. "$build/tests/shim.conf"

# Sockets have short names, so the directory does too; a tmpfs is no place for it: direct I/O.
work=$(mktemp -d "${FU_APPS_DIR:-/var/tmp}/fakeuring.XXXXXX") || exit 125
children=()
# shellcheck disable=SC2317
finish() {
	[ ${#children[@]} -eq 0 ] || kill -9 "${children[@]}" 2>/dev/null
	rm -rf "$work"
}
trap finish EXIT
cd "$work" || exit 125

skip() {
	echo "SKIPPED: $*"
	exit 77
}

fail() {
	echo "FAILED: $*"
	exit 1
}

# need PROGRAM...: what scripts/install-needs apps installs.
need() {
	local program

	for program in "$@"; do
		command -v "$program" >/dev/null || skip "no $program (scripts/install-needs apps)"
	done
}

# denied command...: the command where io_uring is denied and there is no shim.
denied() {
	"$FU_JAIL" -- "$@"
}

# served command...: the command where io_uring is denied, on the shim; statistics in $work/stats.
served() {
	"$tests/run-shim" --build "$build" --expect none --stats "$work/stats" -- "$@" 2> >(grep -v '^run-shim: exit 0' >&2)
}

# count KEY: the sum of one of the shim's counters over the processes of the last `served`.
count() {
	awk -v key="\"$1\":" '
		{ at = index($0, key); if (at) total += substr($0, at + length(key)) + 0 }
		END { print total + 0 }' "$work/stats"
}

# proven WHAT LEAST: the shim's own counters say that it did the work.
proven() {
	local rings sqes

	rings=$(count rings) sqes=$(count sqes)
	[ "$rings" -gt 0 ] && [ "$sqes" -ge "$2" ] ||
		fail "$1: the shim counted $rings rings, $sqes requests, where $2 were expected at least"
	echo "$1: served by the shim: $rings rings, $sqes requests, $(count inline) inline, $(count aio) by AIO," \
		"$(count armed) armed, $(count worker) on workers; $(count traps) traps, $(count patched) call sites patched"
}
