#!/usr/bin/env bash
# Becomes process 1 of a sandbox. Runs in new namespaces (mod.rs makes them); what lies in $STATE/seed is laid over
# a copy-on-write view of this machine, and systemd starts on it.
set -euo pipefail
STATE=$1 CGROUP=$2 DROP=$3

read -r pid _ < /proc/self/stat # still on the host's /proc: our pid as the host sees it
echo 0 > "$CGROUP/init/cgroup.procs"
mount --make-rprivate /
m=$STATE/mnt r=$STATE/mnt/root
mkdir "$m"
mount -t tmpfs -o mode=0755,size=50% sandbox "$m"
mkdir "$m/upper" "$m/work" "$r"
mount -t overlay -o "lowerdir=/,upperdir=$m/upper,workdir=$m/work" sandbox "$r"
mkdir -p "$r"/{proc,sys,dev,run,tmp}

mount -t proc -o nosuid,nodev,noexec proc "$r/proc"
for p in sys sysrq-trigger irq bus fs; do # nothing in there can retune this machine
    [ -e "$r/proc/$p" ] || continue
    mount --bind "$r/proc/$p" "$r/proc/$p"
    mount -o remount,bind,ro "$r/proc/$p"
done
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$r/sys"
mount -t tmpfs -o mode=0755,nosuid dev "$r/dev"
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<< "$node"
    mknod -m 666 "$r/dev/$name" c "$major" "$minor"
done
mkdir "$r"/dev/{pts,shm,mqueue}
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$r/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev shm "$r/dev/shm"
mount -t mqueue mqueue "$r/dev/mqueue"
ln -s pts/ptmx "$r/dev/ptmx"
ln -s /proc/self/fd "$r/dev/fd"
: > "$r/dev/console"
mount --bind "$STATE/console.log" "$r/dev/console"
mount -t tmpfs -o mode=0755,nosuid,nodev run "$r/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmp "$r/tmp"

rm -f "$r/usr/sbin/policy-rc.d" # container images put one there, and maintainer scripts skip every service
cp -a "$STATE/seed/." "$r/"
mount --bind "$STATE/share" "$r/run/sandbox"
mount --bind "$r/run/boot_id" "$r/proc/sys/kernel/random/boot_id"
while IFS=$'\t' read -r mode path; do
    if [ -d "$path" ]; then mkdir -p "$r$path"; else mkdir -p "$r${path%/*}"; : >> "$r$path"; fi
    mount --rbind "$path" "$r$path"
    [ "$mode" = rw ] || mount -o remount,bind,ro "$r$path"
done < "$STATE/binds"

echo "$pid" > "$STATE/share/pid"
cd "$r"
mkdir .old
pivot_root . .old
# The cgroup namespace begins here, so that its root holds this process and no other: one of the outer pid
# namespace would read as pid 0 in it, and systemd answers that with EIO.
# shellcheck disable=SC2016
exec unshare --cgroup -- chroot . /usr/bin/env -i /bin/sh -c '
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
    umount -l /.old && rmdir /.old
    exec setpriv --bounding-set="$1" \
        env -i container=sandbox TERM=dumb LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --unit=sandbox.target --show-status=no --log-target=journal-or-kmsg --log-level=info
' sh "$DROP" </dev/null
