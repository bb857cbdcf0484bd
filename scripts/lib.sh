# shellcheck shell=bash
# What the scripts have in common. The one that reads this file is in the root of the project from then on.

script=$(realpath "$0")
cd "$(dirname "$script")/.." || exit
# where Debian and go.dev put programs that sudo or su may leave out
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/go/bin

say() { printf '%s\n' "$*" >&2; }

die() {
	say "${script##*/}: $*"
	exit 1
}

need_root() {
	((EUID == 0)) || die "mounting filesystems needs root: run it with sudo"
}

# find_go also looks where Debian puts the versions of Go that are not the default one.
find_go() {
	local dir
	for dir in /usr/lib/go-*/bin; do
		[[ -x $dir/go ]] && PATH=$PATH:$dir
	done
	command -v go >/dev/null || die "there is no Go, which builds the program: see https://go.dev/doc/install"
}

# install_missing "PROGRAM:PACKAGE..."... installs the Debian packages of the programs that are not there.
install_missing() {
	local pair package programs=() packages=()
	for pair; do
		command -v "${pair%%:*}" >/dev/null && continue
		programs+=("${pair%%:*}")
		for package in ${pair#*:}; do
			packages+=("$package")
		done
	done
	((${#packages[@]})) || return 0
	command -v apt-get >/dev/null || die "these programs are missing, please install them: ${programs[*]}"
	say "Installing ${packages[*]}"
	# the lists of packages may be absent or old
	apt_install "${packages[@]}" 2>/dev/null || { apt-get -qq update && apt_install "${packages[@]}"; }
}

apt_install() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@" </dev/null >/dev/null
}

# in_private_mounts ARGUMENT... runs the script again, with mounts and processes of its own and fresh memory at /dev/shm: all that
# is mounted, written there or started ends with the script, even when that is killed.
in_private_mounts() {
	if [[ $$ != 1 || -z ${BTRFS_BACKUP_PRIVATE_MOUNTS:-} ]]; then
		BTRFS_BACKUP_PRIVATE_MOUNTS=1 setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child \
			--mount-proc -- "$BASH" "$script" "$@"
		exit
	fi
	trap 'exit 130' INT # which the first process of all would ignore
	mount -t tmpfs -o size=80% tmpfs /dev/shm
}
