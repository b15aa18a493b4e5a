# Runs a command where it sees the system's programs, the Rust toolchain and
# one copy of the course, and can change nothing but that copy. For `unshare`,
# as root of a user namespace of its own:
#
#   sh -ec "$(cat sandbox.sh)" sh ROOT COURSE TOOLCHAIN REGISTRY COMMAND...
root=$1 course=$2 toolchain=$3 registry=$4
shift 4

mount -t tmpfs -o size=256m,mode=755 tmpfs "$root"
cd "$root"
mkdir course toolchain proc dev etc tmp tmp/cargo tmp/cargo/registry old
for folder in usr bin sbin lib lib32 lib64 libx32 etc/alternatives; do
    if [ -L "/$folder" ]; then
        cp -P "/$folder" "$folder"
    elif [ -d "/$folder" ]; then
        mkdir "$folder"
        mount --rbind "/$folder" "$folder"
        mount -o remount,bind,ro "$folder"
    fi
done
for file in etc/ld.so.cache dev/null dev/zero dev/full dev/random dev/urandom; do
    touch "$file"
    mount --bind "/$file" "$file"
done
mount --rbind "$toolchain" toolchain
mount -o remount,bind,ro toolchain
mount --rbind "$registry" tmp/cargo/registry
mount -o remount,bind,ro tmp/cargo/registry
mount --bind "$course" course
mount -t proc proc proc
ip link set lo up

pivot_root . old
umount -l old
rmdir old
cd /course
# No capability is left to undo this with.
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- \
    prlimit --nproc=1000 --data=4294967296 --fsize=1073741824 --core=0 -- "$@"
