# shellcheck shell=bash
# A private Debian root with the toolchain of dependencies.txt, for hosts that do not have it.
#
# Sourced by ./dev. Owns how the root is made (once, kept in the user's cache) and how a command runs inside it
# (a mount namespace of its own, so nothing is left mounted). Knows nothing about verbs.
#
# Inside, /usr, /etc and the package manager's state come from the root and every other folder from the host, so a path
# of the host means the same inside and outside. What a command names below the host's own /usr and /etc is added.

readonly debian_suite=forky

: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hypura

PATH=$PATH:/usr/sbin:/sbin  # chroot, for users whose path lacks it

am_root() { ((EUID == 0)); }

# As an ordinary user, a user namespace gives the rights that making and entering a root needs.
unshare_options() {
    if am_root; then
        echo "--mount"
    else
        echo "--user --map-root-user --map-auto --mount"
    fi
}

# in_namespace COMMAND…: runs it with its own mount table.
in_namespace() {
    local options
    read -ra options <<<"$(unshare_options)"
    unshare "${options[@]}" "$@"
}

require_namespaces() {
    local problem
    problem=$(in_namespace true 2>&1) && return
    if am_root; then
        die "cannot make a mount namespace ($problem): a container needs CAP_SYS_ADMIN for it." \
            "Or install the packages of dependencies.txt on a host that has them (Debian 14, Ubuntu 26.04)."
    fi
    command -v newuidmap >/dev/null || die "newuidmap is missing: install the package uidmap, or run as root."
    grep -q "^$(id -un):" /etc/subuid 2>/dev/null ||
        die "no subordinate user ids. As root, run" \
            "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)"
    die "cannot make a user namespace ($problem). As root, run 'sysctl kernel.unprivileged_userns_clone=1'" \
        "or, on Ubuntu, 'sysctl kernel.apparmor_restrict_unprivileged_userns=0'. Or run ./dev as root."
}

require_mmdebstrap() {
    command -v mmdebstrap >/dev/null && return
    local missing=(mmdebstrap debian-archive-keyring)
    am_root || die "mmdebstrap is missing: install ${missing[*]} uidmap, or run as root once."
    command -v apt-get >/dev/null || die "mmdebstrap is missing, and there is no apt-get to install it with."
    note "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # The package lists of a fresh machine are empty or old: fetch them only if the first try fails.
    apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null; } ||
        die "could not install ${missing[*]}."
}

# The Debian mirror this host already uses. apt itself is asked, since it knows every format of its sources.
debian_mirror() {
    if [[ -n ${HYPURA_MIRROR:-} ]]; then
        echo "$HYPURA_MIRROR"
        return
    fi
    local uri
    uri=$(apt-get --print-uris update 2>/dev/null | sed -n "s|^'\([^']*/debian\)/*/dists/.*|\1|p" | head -n 1)
    [[ -n $uri ]] || uri=$(mirror_list_entry)
    [[ -n $uri ]] || die "this host's apt sources name no Debian mirror." \
        "Set HYPURA_MIRROR to the address of one that carries $debian_suite (it ends in /debian)."
    echo "$uri"
}

# Cloud images name a file that lists mirrors (mirror+file:/…) instead of a mirror.
mirror_list_entry() {
    local list
    list=$(apt-get --print-uris update 2>/dev/null | sed -n "s|^'mirror+file:\(/[^']*\)/dists/.*|\1|p" | head -n 1)
    [[ -f $list ]] || return 0
    sed -n 's|^\(http[^[:space:]]*/debian\)/*\([[:space:]].*\)\{0,1\}$|\1|p' "$list" | head -n 1
}

# Proxy, TLS and validity settings of the host's apt, one --aptopt a line.
carried_apt_options() {
    apt-config dump 2>/dev/null |
        grep -E '^Acquire::(Check-Valid-Until|Check-Date|Max-FutureTime|Retries|https?::.*) ".+";$' |
        sed 's/^/--aptopt=/' || true
}

# root_path PACKAGE…: where the root with these packages is, made or not.
root_path() {
    local hash
    hash=$(printf '%s\n' "$debian_suite" "$(uname -m)" "$@" | sha256sum | cut -c1-12)
    echo "$cache/root-$hash"
}

# ensure_root PACKAGE…: makes the root unless it is there. Two runs at once wait for each other.
ensure_root() {
    local root
    root=$(root_path "$@")
    require_namespaces
    [[ -d $root ]] || locked make_root "$root" "$@"
}

# locked COMMAND…: holds the cache's lock meanwhile.
locked() (
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    "$@"
)

make_root() {
    local root=$1 mirror part log=$cache/make-root.log
    shift
    [[ ! -d $root ]] || return 0  # somebody else made it while we waited for the lock
    remove_tree "$root".part.*    # what a killed run left
    require_mmdebstrap
    mirror=$(debian_mirror)
    note "making a private Debian $debian_suite root in $root (once; a download of some hundred MB)"
    part=$(mktemp -d "$root.part.XXXXXX")
    # shellcheck disable=SC2064  # the folder's name now, not at exit
    trap "remove_tree '$part'" EXIT
    chmod 755 "$part"
    bootstrap "$part" "$mirror" "$@" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        die "mmdebstrap failed; all of its output is in $log"
    }
    mv -T "$part" "$root"
    trap - EXIT
}

# bootstrap FOLDER MIRROR PACKAGE…
bootstrap() {
    local folder=$1 mirror=$2 options packages
    shift 2
    packages=$(IFS=, && echo "$*")
    mapfile -t options < <(carried_apt_options)
    # shellcheck disable=SC2016  # the hook's $1, expanded by mmdebstrap
    local hook='touch "$1/etc/hosts"'
    # check/qemu needs a tool that minimal hosts lack, and the root is of the host's own architecture anyway.
    options+=(--variant=apt --skip=check/qemu --include="$packages" --customize-hook="$hook")
    if am_root; then
        mmdebstrap --mode=root --format=directory "${options[@]}" "$debian_suite" "$folder" "$mirror"
    else
        # Through a tar stream: the user ids that mmdebstrap works under may not enter a private home folder.
        mmdebstrap --mode=unshare --format=tar "${options[@]}" "$debian_suite" - "$mirror" |
            in_namespace tar -x -C "$folder" --numeric-owner --exclude='./dev/*'
    fi
}

# remove_tree PATH…: also what belongs to subordinate user ids.
remove_tree() {
    if am_root; then
        rm -rf --one-file-system "$@"
    else
        in_namespace rm -rf --one-file-system "$@"
    fi
}

# enter_root ROOT COMMAND…: replaces this process by COMMAND inside ROOT, in the same current folder.
enter_root() {
    local root=$1 options
    shift
    mkdir -p "$cache/stage"
    read -ra options <<<"$(unshare_options)"
    # shellcheck disable=SC2016  # expanded by the inner shells
    exec unshare "${options[@]}" "$BASH" -c '
        set -euo pipefail
        source "$1"
        compose_root "$2" "$3"
        for word in "$PWD" "${@:4}"; do expose "$3" "${word#*=}"; done
        exec chroot "$3" /usr/bin/env -u LD_LIBRARY_PATH -u LD_PRELOAD -u BASH_ENV LC_ALL=C.UTF-8 \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HYPURA_IN_ROOT="${2##*/}" \
            /bin/bash -c "cd \"\$1\" && shift && exec \"\$@\"" bash "$PWD" "${@:4}"
    ' bash "${BASH_SOURCE[0]}" "$root" "$cache/stage" "$@"
}

# compose_root ROOT STAGE: lays the root and the host's folders together. Only inside a mount namespace.
compose_root() {
    local root=$1 stage=$2 path
    mount -t tmpfs -o mode=755 hypura "$stage"
    # Unbindable, since the stage lies in a folder that is itself bound into the stage.
    mount --make-unbindable "$stage"
    # The state of dpkg and apt goes with /usr: it must never be the host's.
    mkdir -p "$stage"/var/{lib,cache}
    for path in "$root"/{bin,sbin,lib*,usr,etc,var/lib/*,var/cache/*}; do
        place "$path" "$stage${path#"$root"}" --bind
    done
    for path in /* /var/* /var/lib/* /var/cache/*; do
        place "$path" "$stage$path" --rbind
    done
    # Name resolution is the host's, and so is whom it trusts.
    for path in /etc/hosts /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt; do
        [[ ! -f $path || ! -f $stage$path ]] || mount --bind "$path" "$stage$path"
    done
}

# place FROM TO BIND: a link is copied, a folder bound; anything else, and what TO already has, is left out.
place() {
    if [[ -e $2 || -L $2 ]]; then
        return 0
    elif [[ -L $1 ]]; then
        cp -P "$1" "$2"
    elif [[ -d $1 ]]; then
        mkdir "$2"
        mount "$3" "$1" "$2"
    fi
}

# expose STAGE PATH: makes a path of the host that lies below one of the root's folders visible there, too: a model in
# /usr/share, say. Whole folders, since the other parts of a split model lie beside it; but never over one of the root's.
expose() {
    local stage=$1 path folder
    [[ $2 == */* && -e $2 ]] || return 0
    path=$(realpath -s "$2")
    [[ ! -e $stage$path ]] || return 0
    folder=$path
    [[ -d $path ]] || folder=${path%/*}
    if [[ -e $stage$folder ]]; then
        touch "$stage$path"
        mount --bind "$path" "$stage$path"
    else
        mkdir -p "$stage$folder"
        mount --rbind "$folder" "$stage$folder"
    fi
}

# remove_old_roots KEEP…: every root in the cache but these.
remove_old_roots() {
    local root
    for root in "$cache"/root-*; do
        [[ -e $root && " $* " != *" $root "* ]] || continue
        note "removing $root"
        remove_tree "$root"
    done
}
