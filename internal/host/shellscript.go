package host

// The scripts that a Shell runs: for any POSIX sh, with the programs of coreutils or busybox, and btrfs-progs since 5.0.
//
// Every word that is not a constant comes as an argument. What they print are fields that end with a NUL byte, which no
// name and no output of btrfs contains; before the content of a file stands its size. In place of a program's status they
// end with one of those in shellStatus where that tells more.

// scriptMarker tells where the output of a script begins, behind what a login shell prints.
const scriptMarker = "\x00btrfs-backup\x00"

// scriptStart begins every script. Its argument is what makes a command privileged, if anything does.
const scriptStart = `
LC_ALL=C PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL PATH
cd / # find must be able to come back to where it begins
sudo=$1
shift
printf '\0btrfs-backup\0'

fields() { printf '%s\0' "$@"; }

# reach DIR: ends the script if it is not there. A mere test would say the same of one that cannot be read.
reach() {
	message=$($sudo ls -d -- "$1/." 2>&1 >/dev/null) && return
	printf '%s\n' "$message" >&2
	case $message in
	*': No such file or directory') exit 61 ;;
	*': Not a directory') exit 63 ;;
	*': Permission denied') exit 64 ;;
	esac
	exit 1
}

# there PATH: whether anything has this name. Ends the script where that cannot be told.
there() {
	message=$($sudo ls -d -- "$1" 2>&1 >/dev/null) && return
	case $message in
	*': No such file or directory')
		$sudo test -L "$1" # that leads nowhere: the ls of busybox follows it
		return
		;;
	esac
	printf '%s\n' "$message" >&2
	exit 1
}

inode() {
	set -- "$($sudo ls -di -- "$1")" || return
	set -- "${1#"${1%%[! ]*}"}"
	printf '%s\n' "${1%% *}"
}

subvolume_id() { $sudo btrfs inspect-internal rootid "$1"; }

# identity DIR: its subvolume and inode, or its device and inode where there are no subvolumes
identity() {
	if is_btrfs "$1"; then
		id=$(subvolume_id "$1") && inode=$(inode "$1/.") && printf '%s %s\n' "$id" "$inode"
	else
		$sudo stat -c 'device-%d %i' -- "$1/."
	fi
}

list() { $sudo btrfs subvolume list -p -c -g -u -q -R "$@"; }

# describe_subvolume ID DIR: the lines of one subvolume in the lists of all and of the read-only ones. The top level is not
# in them.
describe_subvolume() {
	if [ "$1" = 5 ]; then
		all=$($sudo btrfs subvolume show -r 5 "$2") || exit
		fields "$all" ''
		return
	fi
	all=$(list "$2") && ro=$(list -r "$2") || exit
	fields "$(printf '%s\n' "$all" | grep "^ID $1 ")" "$(printf '%s\n' "$ro" | grep "^ID $1 ")"
}

is_btrfs() {
	type=$($sudo stat -f -c %t -- "$1") || exit
	[ "$type" = 9123683e ] # linux/magic.h: BTRFS_SUPER_MAGIC
}

sync_dir() {
	if is_btrfs "$1"; then
		$sudo btrfs filesystem sync "$1" >/dev/null
	else
		$sudo sync -f -- "$1" 2>/dev/null || $sudo sync # not every sync takes a file
	fi
}
`

// scriptDescribe prints what a directory is: DIR.
const scriptDescribe = `
describe() {
	reach "$1"
	uid=$($sudo id -u) && space=$($sudo stat -f -c '%a %S' -- "$1") || exit
	fields "$uid" "$space"
	if ! is_btrfs "$1"; then
		fields ''
		return
	fi
	id=$(subvolume_id "$1") && inode=$(inode "$1/.") || exit
	# the status of a scrub is not asked for, only the UUID that stands above it
	fields "$id" "$inode" "$($sudo btrfs scrub status "$1")"
	[ "$inode" = 256 ] || $sudo btrfs inspect-internal inode-resolve "$inode" "$1" || exit
	fields ''
	describe_subvolume "$id" "$1"
}
`

// scriptOpen is that of Open: DIR.
const scriptOpen = scriptDescribe + `describe "$1"`

// scriptContents prints what a directory holds: DIR LEDGER ORIGINS.
const scriptContents = `
# file DIR NAME: "-" if there is none, "!" and why it cannot be read, or the size and the content
file() {
	if $sudo test -L "$1/${2%/*}"; then
		fields "!$1/${2%/*} is a symbolic link"
	elif ! there "$1/$2"; then
		fields -
	elif $sudo test -L "$1/$2" || ! $sudo test -f "$1/$2"; then
		fields "!$1/$2 is not a plain file"
	elif ! message=$($sudo cat -- "$1/$2" 2>&1 >/dev/null); then
		fields "!${message:-$1/$2 cannot be read}"
	else
		size=$($sudo cat -- "$1/$2" | wc -c) && fields "$((size))" && $sudo cat -- "$1/$2" || exit
		fields ''
	fi
}

contents() {
	list "$1" || exit
	fields ''
	list -r "$1" || exit
	fields ''
	# behind the lists: what is gone by now is left out
	$sudo find "$1/." ! -name . -prune -type d -print0 || exit
	fields ''
	file "$1" "$2"
	file "$1" "$3"
	fields "$($sudo btrfs qgroup show --raw "$1" 2>/dev/null)" # none where quotas are off
}
`

// scriptList is that of List: DIR LEDGER ORIGINS.
const scriptList = scriptDescribe + scriptContents + `
describe "$1"
if is_btrfs "$1"; then contents "$@"; fi
`

// scriptNested lists only: DIR.
const scriptNested = scriptDescribe + `
describe "$1"
list "$1" || exit
fields ''
`

const scriptMkdirAll = `$sudo mkdir -p -- "$1"`

// protocolFile is the argument.
const scriptFormat = `
version=$(btrfs --version) || exit
protocol=
if [ -r "$1" ]; then read -r protocol <"$1"; fi
fields "$version" "$protocol"
`

// scriptDir begins the scripts that change a directory: DIR ID INODE, as printed by identity. Its path may lead elsewhere
// since it was opened, for instance when a disk was unmounted.
const scriptDir = `
dir=$1
reach "$dir"
if [ -n "$2" ] && [ "$(identity "$dir")" != "$2 $3" ]; then
	printf '%s\n' "$dir is another directory than before" >&2
	exit 65
fi
shift 3
`

// scriptLock tries once for each line of its input. Once it has the lock, it keeps it while the input is open.
const scriptLock = scriptDir + `
if ! command -v flock >/dev/null; then
	fields none
	exit
fi
while read -r line; do
	$sudo flock -n "$dir" sh -c 'printf "locked\0"; cat >/dev/null'
	status=$?
	[ $status = 1 ] || exit $status
	fields held
done
`

// scriptTake: SOURCE UUID NAME.
const scriptTake = scriptDir + `
reach "$1"
source=$(subvolume_id "$1") || exit
if [ "$source" = 5 ]; then
	uuid=$($sudo btrfs subvolume show -r 5 "$1" | sed -n 's/^[[:space:]]*UUID:[[:space:]]*//p' | head -n 1)
else
	all=$(list "$1") || exit
	uuid=$(printf '%s\n' "$all" | grep "^ID $source ")
	uuid=${uuid#* uuid }
	uuid=${uuid%% *}
fi
if [ "$uuid" != "$2" ]; then
	printf '%s\n' "$1 is another subvolume than before: UUID $uuid instead of $2" >&2
	exit 65
fi
if there "$dir/$3"; then exit 62; fi
$sudo btrfs subvolume snapshot -r "$1" "$dir/$3" >/dev/null || exit
# into a directory of that name, made since, btrfs puts the snapshot below it
id=$(subvolume_id "$dir/$3") && parent=$(subvolume_id "$dir") || exit
[ "$id" != "$parent" ] || exit 62
$sudo btrfs filesystem sync "$dir" >/dev/null || exit 68
describe_subvolume "$id" "$dir"
`

// scriptDelete prints a field for each name, which is empty if it was deleted: CONVERT WAIT NAME...
const scriptDelete = scriptDir + `
read_only() { # PATH BOOL; -f is needed for received ones, and known, since btrfs-progs 5.14.2
	$sudo btrfs property set -f -ts "$1" ro "$2" 2>/dev/null || $sudo btrfs property set -ts "$1" ro "$2"
}
delete() { # PATH CONVERT
	# btrfs would follow a symbolic link
	if $sudo test -L "$1"; then
		echo 'it is a symbolic link: Not a directory'
		return 1
	fi
	if [ -n "$2" ]; then read_only "$1" false || return; fi
	$sudo btrfs subvolume delete "$1" >/dev/null && return
	if [ -n "$2" ]; then read_only "$1" true; fi
	return 1
}
convert=$1 wait=$2
shift 2
some=
for name; do
	if message=$(delete "$dir/$name" "$convert" 2>&1); then
		some=1
		fields ''
	else
		fields "${message:-failed}"
	fi
done
if [ -n "$wait" ] && [ -n "$some" ]; then
	$sudo btrfs subvolume sync "$dir" >/dev/null
fi
`

// scriptBtrfs runs btrfs with the arguments in its own place.
const scriptBtrfs = scriptDir + `exec $sudo btrfs "$@"`

// scriptReceive: HIDDEN NAME OPTION. It prints what is in the way, or nothing and the number of the process that receives;
// in the end it describes what was received.
const scriptReceive = scriptDir + `
for name in "$1" "$2"; do
	if there "$dir/$name"; then
		kind='a file'
		if $sudo test -L "$dir/$name"; then
			kind='a symbolic link'
		elif $sudo test -d "$dir/$name"; then
			kind='a directory'
			if [ "$(inode "$dir/$name/.")" = 256 ]; then kind='another subvolume'; fi
		fi
		fields "$kind" "$name"
		exit 62
	fi
done
exec 3<&0 # a background process gets no other input
$sudo btrfs receive "$3" "$dir" <&3 3<&- >/dev/null &
fields '' $!
exec 3<&- </dev/null
wait $! || exit
id=$(subvolume_id "$dir/$1") && [ "$id" != "$(subvolume_id "$dir")" ] || exit
describe_subvolume "$id" "$dir"
`

// scriptCommit: HIDDEN NAME ID LEDGER ORIGINS. The data must be on disk before the name.
const scriptCommit = scriptContents + scriptDir + `
$sudo btrfs filesystem sync "$dir" >/dev/null || exit
id=$(subvolume_id "$dir/$1") || exit
[ "$id" = "$3" ] || exit 65
if there "$dir/$2"; then exit 62; fi
# without -T, which not every busybox has, a directory made since is no target: what is read-only cannot leave its own
$sudo mv -n -T -- "$dir/$1" "$dir/$2" 2>/dev/null || $sudo mv -n -- "$dir/$1" "$dir/$2" || exit
if there "$dir/$1"; then exit 62; fi # mv -n tells nothing
id=$(subvolume_id "$dir/$2") || exit
[ "$id" = "$3" ] || exit 62
$sudo btrfs filesystem sync "$dir" >/dev/null || exit
contents "$dir" "$4" "$5"
`

// scriptAbort: HIDDEN PROCESS. The process ends by itself, as its input has ended.
const scriptAbort = scriptDir + `
for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	case $(tr '\0' ' ' <"/proc/$2/cmdline") in
	*btrfs*receive*) sleep 1 ;;
	*) break ;;
	esac
done 2>/dev/null
there "$dir/$1" || exit 0
$sudo btrfs subvolume delete "$dir/$1" >/dev/null
`

// scriptReplace: FILE SIZE. The content is its input, of which the connection may have lost the end.
const scriptReplace = scriptDir + `
file=$dir/$1
case $1 in
*/*)
	if $sudo test -L "${file%/*}"; then
		printf '%s\n' "${file%/*} is a symbolic link" >&2
		exit 66
	fi
	$sudo mkdir -p -- "${file%/*}" || exit
	;;
esac
if $sudo test -d "$file"; then
	printf '%s\n' "$file is a directory" >&2
	exit 66
fi
new=$($sudo mktemp "$file.XXXXXX") || exit
$sudo tee -- "$new" >/dev/null && {
	size=$($sudo cat -- "$new" | wc -c)
	[ "$((size))" = "$2" ] || (exit 67)
} && $sudo chmod 644 "$new" && sync_dir "$dir" && $sudo mv -f -- "$new" "$file" && sync_dir "$dir" && exit
status=$?
$sudo rm -f -- "$new"
exit $status
`

// scriptLink: NAME TARGET.
const scriptLink = scriptDir + `
if there "$dir/$1" && ! $sudo test -L "$dir/$1"; then exit 69; fi
new=$dir/.btrfs-backup.link.$$
$sudo rm -f -- "$new" && $sudo ln -s -- "$2" "$new" || exit
$sudo mv -f -T -- "$new" "$dir/$1" 2>/dev/null && exit
$sudo rm -f -- "$new"
$sudo ln -s -f -n -- "$2" "$dir/$1" # where mv has no -T
`

const scriptSync = scriptDir + `sync_dir "$dir"`
