# The keeper of a throwaway cluster: it makes and starts the server, says
# "ready" on standard output, stops and starts the server when its standard
# input says so, waits for the end of that, and removes everything. What goes wrong before "ready" goes to standard output.
set -u
bin=$1 dir=$2 port=$3 flush=$4

remove() {
	# The files are thrown away, so nothing is worth a checkpoint.
	"$bin/pg_ctl" --pgdata="$dir/data" --mode=immediate stop >/dev/null 2>&1 </dev/null
	cd / && rm -rf "$dir"
}
trap remove EXIT
trap 'exit 1' HUP INT TERM
# The owner may die before it hears "ready"; the keeper must outlive that.
trap '' PIPE

if ! "$bin/initdb" --pgdata="$dir/data" --username=postgres --pwfile="$dir/password" \
	--auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync >"$dir/log" 2>&1 </dev/null; then
	cat "$dir/log"
	exit 1
fi
rm -f "$dir/password"

# Without a flush to disk nothing protects against a crash of the operating
# system, and nothing else changes: commits, locks and recovery from a killed
# process work as in production. TCP only, because a socket's path must be
# shorter than some temporary directories are. synchronous_commit stays on.
cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
fsync = $flush
full_page_writes = $flush
max_connections = 300
log_min_messages = log
log_checkpoints = off
CONF

if ! "$bin/pg_ctl" --pgdata="$dir/data" --log="$dir/log" --wait start >"$dir/start" 2>&1 </dev/null; then
	cat "$dir/start" "$dir/log"
	exit 1
fi
echo ready || exit 1
exec >/dev/null

while read -r what; do
	case $what in
	stop) "$bin/pg_ctl" --pgdata="$dir/data" --mode=immediate --wait stop >/dev/null 2>&1 </dev/null ;;
	start) "$bin/pg_ctl" --pgdata="$dir/data" --log="$dir/log" --wait start >/dev/null 2>&1 </dev/null ;;
	esac
done
exit 0
