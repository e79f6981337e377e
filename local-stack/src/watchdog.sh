# Stops the servers of one stack when its owner is gone, however it went.
#
# The owner holds the other end of our standard input. It writes `done` when it has stopped its servers and cleaned up
# itself; end of file without that means that it died.
#   $1  the stack's folder
#   $2  "temporary" if the folder goes with the stack, else "kept"
#   $3  the name of this run of the stack: it is part of the names of its pid files, `FOLDER/SERVER/PROGRAM-RUN.pid`
#   $4  the signal that ends PostgreSQL gently
trap '' INT TERM HUP QUIT PIPE
folder=$1
lifetime=$2
run=$3
postgres_signal=$4
cd / || exit 1

while read -r word; do
    [ "$word" = done ] && exit 0
done

# A pid alone could be somebody else's by now: the server's command line names the folder.
alive() {
    tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null | grep -qF -- "$folder"
}

# Sends signal $1 to every server of this run that is alive, and to its helpers: each server leads a process group.
# `GENTLE` is the signal that ends it in order, 0 only looks. Fails if no server is alive.
send_all() {
    found=1
    for file in "$folder"/*/*-"$run".pid; do
        [ -f "$file" ] && read -r pid <"$file" && alive "$pid" || continue
        found=0
        case $1-${file##*/} in
        GENTLE-postgres-*) kill -s "$postgres_signal" -- "-$pid" ;;
        # Its helpers end by themselves then, and free their shared memory, which a signal would keep them from.
        GENTLE-initdb-*) kill -s TERM -- "$pid" ;;
        GENTLE-*) kill -s TERM -- "-$pid" ;;
        *) kill -s "$1" -- "-$pid" ;;
        esac
    done 2>/dev/null
    return $found
}

# What a killed PostgreSQL leaves: a small System V segment, whose id is in line 7.
free_shared_memory() {
    line=$(sed -n 7p "$folder/postgres/data/postmaster.pid" 2>/dev/null)
    [ -n "$line" ] && ipcrm -m "${line##* }" 2>/dev/null
}

# More than once: a server whose shell had not yet written its pid file at the first look, a helper that still writes.
rounds=0
while [ $rounds -lt 10 ]; do
    rounds=$((rounds + 1))
    if send_all GENTLE; then
        tries=0
        while send_all 0 && [ $tries -lt 100 ]; do
            tries=$((tries + 1))
            sleep 0.1
        done
        send_all KILL
    fi
    rm -f -- "$folder"/*/*-"$run".pid
    if [ "$lifetime" = temporary ]; then
        free_shared_memory
        rm -rf -- "$folder" 2>/dev/null
    elif [ $rounds -ge 2 ]; then
        exit 0
    fi
    sleep 0.2
    [ -d "$folder" ] || exit 0
done
