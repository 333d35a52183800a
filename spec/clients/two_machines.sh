#!/bin/sh
# Two machines, a network namespace each, with a gateway on each of them, and a proxy before them that is configured by
# the file of scripts/examples. Conversations are held through the proxy, over TLS; then a machine goes down.
#
#   usage: unshare -n sh two_machines.sh nginx|haproxy PARLEY CLAUDE FOLDER
set -eu
proxy=$1 parley=$2 claude=$3 folder=$4
token=proxy-token-0123456789
pids=''
trap 'kill $pids 2>/dev/null || true; wait' EXIT

fail() {
  echo "two_machines: $*" >&2
  cat "$folder"/*.log >&2
  exit 1
}

ip link set lo up
for n in 1 2; do
  mkfifo "$folder/ready$n" "$folder/go$n"
  # shellcheck disable=SC2016 # for the shell inside
  env XDG_STATE_HOME="$folder/state$n" PARLEY_TOKEN=$token unshare -n sh -c 'echo >"$1/ready$2"; read -r _ <"$1/go$2"
    exec "$3" serve --host "10.77.$2.2" --port 8765 --allow-host parley.example --executable "$4"' \
    sh "$folder" $n "$parley" "$claude" >"$folder/serve$n.log" 2>&1 &
  pid=$!
  pids="$pids $pid"
  eval "machine$n=$pid"
  read -r _ <"$folder/ready$n" || true
  ip link add "m$n" type veth peer name eth0 netns "$pid"
  ip addr add "10.77.$n.1/24" dev "m$n"
  ip link set "m$n" up
  nsenter -t "$pid" -n sh -c "ip link set lo up; ip addr add 10.77.$n.2/24 dev eth0; ip link set eth0 up"
  echo >"$folder/go$n"
done

patiently() { # command: until it succeeds
  tries=0
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || fail "does not succeed: $*"
    sleep 0.1
  done
}
for n in 1 2; do patiently curl -sf --max-time 60 "http://10.77.$n.2:8765/healthz"; done

openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=parley.example -keyout "$folder/parley.key" \
  -out "$folder/parley.crt" 2>"$folder/openssl.log"
cat "$folder/parley.crt" "$folder/parley.key" >"$folder/parley.pem"
if [ "$proxy" = nginx ]; then
  sed "s|/etc/ssl|$folder|" scripts/examples/gateway_nginx.conf >"$folder/parley.conf"
  cat >"$folder/nginx.conf" <<CONF
daemon off; master_process off; pid $folder/nginx.pid; error_log $folder/proxy.log;
events {}
http {
  access_log off; client_body_temp_path $folder/body; proxy_temp_path $folder/proxy;
  fastcgi_temp_path $folder/fastcgi; uwsgi_temp_path $folder/uwsgi; scgi_temp_path $folder/scgi;
  include $folder/parley.conf;
}
CONF
  nginx -p "$folder" -c "$folder/nginx.conf" >>"$folder/proxy.log" 2>&1 &
else
  sed "s|/etc/ssl|$folder|" scripts/examples/gateway_haproxy.cfg >"$folder/haproxy.cfg"
  haproxy -db -f "$folder/haproxy.cfg" >"$folder/proxy.log" 2>&1 &
fi
pids="$pids $!"

call() { # path, options: one attempt, for a proxy that waits for what is gone is at fault
  path=$1
  shift
  curl -sk --max-time 60 --resolve parley.example:443:127.0.0.1 "$@" "https://parley.example$path"
}
ask() { # conversation, messages
  call /v1/messages -H "x-api-key: $token" -H "parley-conversation: $1" \
    -d "{\"model\":\"sonnet\",\"max_tokens\":100,\"messages\":[$2]}"
}
user() { printf '{"role":"user","content":"%s"}' "$1"; }
echo_of() { printf '{"role":"assistant","content":"echo: %s"}' "$1"; }
check() { # answer, text
  case $1 in *"\"echo: $2\""*) ;; *) fail "not 'echo: $2' but: $1" ;; esac
}
count() { grep -c "$1" "$2" || true; }

patiently call /healthz -f
for talk in a b c d e f; do check "$(ask $talk "$(user "one $talk")")" "one $talk"; done
for talk in a b c d e f; do
  check "$(ask $talk "$(user "one $talk"),$(echo_of "one $talk"),$(user "two $talk")")" "two $talk"
done
first=0 second=0
for talk in a b c d e f; do
  one=$(count "200 .*conversation=$talk " "$folder/serve1.log") two=$(count "200 .*conversation=$talk " "$folder/serve2.log")
  [ "$one+$two" = 2+0 ] || [ "$one+$two" = 0+2 ] || fail "$talk was on both machines: $one+$two"
  if [ "$one" = 2 ]; then first=$talk; else second=$talk; fi
done
[ "$first" != 0 ] && [ "$second" != 0 ] || fail "all conversations were on one machine"

# shellcheck disable=SC2154 # it is set by eval
kill -KILL "$machine1"
ip link del m1
check "$(ask "$first" "$(user "one $first"),$(echo_of "one $first"),$(user "two $first"),$(echo_of "two $first"),$(user three)")" three
check "$(ask "$second" "$(user "one $second"),$(echo_of "one $second"),$(user "two $second"),$(echo_of "two $second"),$(user three)")" three
echo "went on: $first on the other machine, $second where it was"
