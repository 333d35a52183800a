#!/bin/sh
# Prints what the window's page needs from elsewhere, as NAME=PATH for bundle.sh: xterm.js, fetched from npm into the folder
# given, once, and checked. Where that cannot be had it says so and prints nothing: the program is built without its page.
set -eu
folder=$1
version=6.0.0
sum=28b934c813f7943345d2b92784ffa1ee56048c1503a14856b1b90cd6c92a9fa2

missing() {
  echo "page: the program is built without the window's page: $1" >&2
  exit 0
}

if [ ! -f "$folder/xterm.js" ]; then
  [ ! -f "$folder/failed" ] || missing "npm could not fetch @xterm/xterm (remove $folder/failed to try again)"
  command -v npm >/dev/null 2>&1 || missing "npm is not installed"
  mkdir -p "$folder/new"
  trap 'rm -rf "$folder/new"' EXIT
  if ! (cd "$folder/new" && timeout 120 npm pack --silent --fetch-retries=1 "@xterm/xterm@$version" >/dev/null 2>&1 &&
    tar -xzf ./*.tgz); then
    : >"$folder/failed"
    missing "npm could not fetch @xterm/xterm"
  fi
  found=$(cat "$folder/new/package/lib/xterm.js" "$folder/new/package/css/xterm.css" | sha256sum)
  if [ "${found%% *}" != "$sum" ]; then
    : >"$folder/failed"
    missing "@xterm/xterm@$version is not what it was"
  fi
  # The map is not carried along.
  grep -v '^//# sourceMappingURL' "$folder/new/package/lib/xterm.js" >"$folder/new/xterm.js"
  mv "$folder/new/package/css/xterm.css" "$folder/xterm.css"
  mv "$folder/new/package/LICENSE" "$folder/LICENSE"
  mv "$folder/new/xterm.js" "$folder/xterm.js"
fi
for file in xterm.js xterm.css LICENSE; do echo "page/xterm/$file=$folder/$file"; done
