#!/bin/sh
# Runs the smoke specs (spec/smoke) against the real `claude`, in a network namespace whose only interface is loopback.
#
#   usage: scripts/smoke.sh [SPEC...]              `make smoke` calls it
#          scripts/smoke.sh --run COMMAND [ARG...] another program in that place (`make bench`, `make soak`)
#
#   CLAUDE_VERSION      versions to run, default "2.1.332 2.1.330 2.1.197"; fetched once with npm into BUILD/claude/VERSION
#   RUN_CLAUDE_SMOKE=1  instead: the specs tagged #account, with the `claude` on PATH, your home and your account
#   SMOKE_OPTIONAL=1    no network namespace to be had is no failure
#   BUILD               default build; BUSTED, default /usr/bin/busted
#
# What a spec finds in its environment, and nothing else: HOME and TMPDIR, fresh; PATH, LANG; PARLEY_CLAUDE, the program;
# PARLEY_CLAUDE_VERSION, what its --version should say; PARLEY_LONG, where it is set. A version fails when a spec does,
# when none ran, and when a process or a temporary file stays behind. Exit status: 0, 1, or 77 where no namespace can be
# made.
set -eu
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build} BUSTED=${BUSTED:-/usr/bin/busted}
run=''  # the folder of the version that runs
child='' # the shell inside the namespace

say() { echo "smoke: $*"; }
fail() {
  say "$*" >&2
  exit 1
}

# The processes that live in the namespace of this run: whoever started them, nobody else's. Descriptor 9 keeps the
# namespace, for its number is given to another run's as soon as nobody does.
left_behind() {
  [ -s "$run/namespace" ] || return 0
  namespace=$(cat "$run/namespace")
  for process in /proc/[0-9]*; do
    [ "$(readlink "$process/ns/net" 2>/dev/null)" = "$namespace" ] && echo "${process#/proc/}"
  done
  return 0
}

clean_up() {
  [ -n "$run" ] || return 0
  [ -z "$child" ] || kill "$child" 2>/dev/null || true
  for pid in $(left_behind); do kill -KILL "$pid" 2>/dev/null || true; done
  exec 9<&-
  rm -rf "$run"
  run='' child=''
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The line of npm's complaint that says what is wrong.
npm_problem() {
  sed -nE 's/^npm (ERR!|error) (notarget |network |[0-9]+ )?//p' "$run/log" | grep -vE '^(code|errno|syscall) |^$' | head -n 1
}

# Downloads into a folder beside the place and renames it: what is there is whole.
fetch() {
  place=$BUILD/claude/$1
  [ -x "$place/claude" ] && return 0
  command -v npm >/dev/null || fail "npm is missing, and claude $1 is not in $place (run: sh scripts/bootstrap)"
  case $(uname -m) in
    x86_64) platform=linux-x64 ;;
    aarch64) platform=linux-arm64 ;;
    *) fail "there is no claude for $(uname -m)" ;;
  esac
  mkdir -p "$BUILD/claude"
  run=$(mktemp -d "$BUILD/claude/fetch.XXXXXX")
  package=@anthropic-ai/claude-code-$platform@$1
  say "fetching $package"
  npm pack --loglevel=error --pack-destination "$run" "$package" >"$run/log" 2>&1 \
    || fail "cannot fetch $package: $(npm_problem)"
  tar -xzf "$run"/*.tgz -C "$run" || fail "cannot unpack $package"
  [ -x "$run/package/claude" ] || fail "$package holds no program"
  mv -T "$run/package" "$place" || [ -x "$place/claude" ] || fail "cannot make $place"
  clean_up
}

# What runs inside: it says which namespace this is, waits until that is held, brings loopback up and becomes the specs.
# `ip` is not everywhere, perl is on every Debian; 0x8914 is SIOCSIFFLAGS, 0x41 means up and running.
# shellcheck disable=SC2016 # for other interpreters to expand
inside='
  readlink /proc/self/ns/net >"$1/namespace"
  read -r _ <"$1/held"
  ip link set lo up 2>/dev/null || perl -MSocket -e '\''
    my $request = pack("Z16sx14", "lo", 0x41);
    socket(S, PF_INET, SOCK_DGRAM, 0) && ioctl(S, 0x8914, $request) or die "cannot bring up lo: $!\n"'\'' || exit 77
  shift
  exec "$@"
'

# Puts a spec run's last words into one line, and judges them.
judge() {
  counts=$(grep -aE '^[0-9]+ success' "$run/log" | tail -n 1)
  if [ "$2" = 0 ] && [ -n "$is_program" ]; then
    problem=''
  elif [ "$2" = 0 ]; then
    case $counts in
      '' | 0\ success*) problem='no spec ran' ;;
      *) problem='' ;;
    esac
  else
    problem="failed with status $2"
  fi
  remains=$(left_behind)
  for _ in 1 2 3 4 5 6 7 8 9 10; do # a process that was killed takes a moment to go
    [ -n "$remains" ] || break
    sleep 0.1
    remains=$(left_behind)
  done
  for pid in $remains; do
    problem="${problem:+$problem, }left process $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c 1-60))"
  done
  for file in "$run"/tmp/* "$run"/tmp/.[!.]*; do
    [ ! -e "$file" ] || problem="${problem:+$problem, }left file ${file##*/}"
  done
  [ -z "$problem" ] || cat "$run/log"
  say "claude $1: ${problem:-ok}${counts:+ ($counts)}"
  [ -z "$problem" ]
}

# Runs the specs offline with one version.
smoke() {
  version=$1
  shift
  fetch "$version"
  run=$(mktemp -d "${TMPDIR:-/tmp}/parley-smoke.XXXXXX")
  mkdir "$run/home" "$run/tmp"
  mkfifo "$run/held"
  status=0
  [ -n "$is_program" ] || set -- "$BUILD/parley" "$BUSTED" --output=plainTerminal --exclude-tags=account "$@"
  # A program's output is for people; that of the specs is shown when they fail.
  : >"$run/log"
  if [ -n "$is_program" ]; then exec 3>&1; else exec 3>"$run/log"; fi
  $namespace_command sh -c "$inside" sh "$run" env -i HOME="$run/home" TMPDIR="$run/tmp" PATH="$PATH" LANG=C.UTF-8 \
    PARLEY_CLAUDE="$(realpath "$BUILD/claude/$version/claude")" PARLEY_CLAUDE_VERSION="$version" \
    ${PARLEY_LONG:+PARLEY_LONG="$PARLEY_LONG"} "$@" >&3 2>&1 </dev/null &
  child=$!
  exec 3>&- 8>"$run/held" # which waits for the other end
  exec 9<"/proc/$child/ns/net" 8>&-
  wait "$child" || status=$?
  child=''
  outcome=0
  judge "$version" "$status" || outcome=1
  clean_up
  return $outcome
}

# Runs the specs for a real account.
smoke_account() {
  claude=$(command -v claude) || fail "there is no claude on PATH"
  version=$(claude --version) || fail "claude --version fails"
  version=${version%% *}
  run=$(mktemp -d)
  mkdir "$run/tmp"
  status=0
  TMPDIR=$run/tmp PARLEY_CLAUDE=$claude PARLEY_CLAUDE_VERSION=$version \
    "$BUILD/parley" "$BUSTED" --output=plainTerminal --tags=account "$@" >"$run/log" 2>&1 || status=$?
  judge "$version" "$status"
}

[ -x "$BUILD/parley" ] || fail "$BUILD/parley is missing (run: make)"
is_program=''
if [ "${1:-}" = --run ]; then
  is_program=1
  shift
fi
[ $# -gt 0 ] || set -- spec/smoke
if [ "${RUN_CLAUDE_SMOKE:-}" = 1 ]; then
  smoke_account "$@"
  exit
fi

namespace_command='unshare -n'
[ "$(id -u)" = 0 ] || namespace_command='unshare -rn'
if ! problem=$($namespace_command true 2>&1); then
  say "no network namespace to be had, so claude is not run: $problem" >&2
  [ "${SMOKE_OPTIONAL:-}" = 1 ] && exit 0
  exit 77
fi
failures=0
for version in ${CLAUDE_VERSION:-2.1.332 2.1.330 2.1.197}; do
  smoke "$version" "$@" || failures=1
done
exit $failures
