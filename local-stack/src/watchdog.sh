# Stops the servers of one stack when its owner is gone, however it went.
#
# The owner holds the other end of our standard input. It writes `done` when it has stopped its servers and cleaned up
# itself; end of file without that means that it died.
#   $1      the stack's folder
#   $2      "temporary" if the folder goes with the stack, else "kept"
#   $3 ...  pairs: signal for a gentle stop, pid file (may be absent)
trap '' INT TERM HUP QUIT PIPE
folder=$1
lifetime=$2
shift 2
cd / || exit 1

while read -r word; do
    [ "$word" = done ] && exit 0
done

# A pid alone could be somebody else's by now: the server's command line names the folder.
alive() {
    tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null | grep -qF -- "$folder"
}

send_all() { # $1: a signal, or "gentle" for each server's own
    how=$1
    shift
    left=no
    while [ $# -gt 0 ]; do
        if [ -f "$2" ] && read -r pid <"$2" && alive "$pid"; then
            left=yes
            case $how in
            gentle) kill -s "$1" "$pid" 2>/dev/null ;;
            *) kill -s "$how" "$pid" 2>/dev/null ;;
            esac
        fi
        shift 2
    done
    [ "$left" = yes ]
}

# Twice: a server whose shell had not yet written its pid file at the first look.
for _ in 1 2; do
    if send_all gentle "$@"; then
        tries=0
        while send_all 0 "$@" && [ $tries -lt 100 ]; do
            tries=$((tries + 1))
            sleep 0.1
        done
        send_all KILL "$@"
    fi
    [ "$lifetime" = temporary ] && rm -rf -- "$folder" 2>/dev/null
    [ -d "$folder" ] || exit 0
    sleep 0.2
done
while [ $# -gt 0 ]; do
    rm -f -- "$2"
    shift 2
done
