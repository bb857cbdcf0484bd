package host

// The scripts for folders of directory trees; see shellscript.go for the rules. What they find and change on disk is told in
// package tree.

// scriptTreesOpen tells what is wrong with the mount, or describes the folder: DIR MOUNTPOINT CREATE.
const scriptTreesOpen = scriptDescribe + `
mount_id() { # proc_pid_fdinfo(5)
	$sudo sh -c 'exec sed -n "s/^mnt_id:[[:space:]]*//p" /proc/self/fdinfo/0 <"$1"' sh "$1/."
}

status() { $sudo stat -c '%d %i' -- "$1/."; }

# check_mount DIR POINT: ends the script unless DIR lies on what is mounted at POINT
check_mount() {
	if ! there "$2/."; then
		fields missing
		exit
	fi
	mount=$(mount_id "$2") && above=$(mount_id "$2/..") && on=$(mount_id "$1") && itself=$(status "$2") || exit
	if [ -z "$mount" ] || [ -z "$on" ]; then
		printf '%s\n' "the kernel does not tell on which mount $1 lies" >&2
		exit 1
	fi
	if [ "$mount" = "$above" ] && [ "$itself" != "$(status "$2/..")" ]; then # only the root is its own parent
		fields unmounted
		exit
	fi
	if [ "$on" != "$mount" ]; then
		fields outside
		exit
	fi
}

if [ -n "$2" ]; then
	nearest=$1
	until there "$nearest/."; do nearest=${nearest%/*}; done
	check_mount "$nearest" "$2"
fi
if [ -n "$3" ]; then $sudo mkdir -p -- "$1" || exit; fi
reach "$1"
if [ -n "$2" ]; then check_mount "$1" "$2"; fi # mounts may have changed since
fields ''
describe "$1"
status "$1"
`

// scriptTreesList prints all that is to be known of a folder.
const scriptTreesList = scriptDescribe + scriptContents + scriptDir + `
describe "$dir"
state=.btrfs-backup
file "$dir" $state/id
file "$dir" $state/unfinished.json
read -r boot </proc/sys/kernel/random/boot_id || exit
fields "$boot"
# in the order of a backup that is finished meanwhile
if there "$dir/$state/manifests"; then
	$sudo sh -c 'cd "$1" || exit
	for file in *.json .*.json; do
		if [ -L "$file" ] || [ ! -f "$file" ]; then continue; fi
		size=$(wc -c <"$file") && printf "%s\0%s\0" "$file" "$((size))" && cat <"$file" && printf "\0" || exit
	done' sh "$dir/$state/manifests" || exit
fi
fields ''
$sudo find "$dir/." ! -name . -prune -print0 || exit
fields ''
$sudo find "$dir/." ! -name . -prune -type d -print0 || exit
fields ''
if is_btrfs "$dir"; then
	list "$dir" || exit
	fields ''
	list -r "$dir" || exit
	fields ''
fi
fields end
`

// scriptTrees begins the scripts that change a folder.
const scriptTrees = scriptDir + `
state=$dir/.btrfs-backup
umask 077

is_directory() { $sudo test -d "$1" && ! $sudo test -L "$1"; }

# must_be PATH ID: ends the script unless it is a directory, and the subvolume of that ID, or none at all
must_be() {
	if is_directory "$1"; then
		id=
		if is_btrfs "$1" && [ "$(inode "$1")" = 256 ]; then id=$(subvolume_id "$1"); fi
		if [ "$id" = "$2" ]; then return; fi
	fi
	printf '%s\n' "$1 is not what it was" >&2
	exit 65
}

# move FROM TO: TO must be free
move() {
	if there "$dir/$2"; then exit 62; fi
	moved=$($sudo stat -c '%d %i' -- "$dir/$1") || exit
	# without -T, which not every busybox has, it may get into a directory made since
	$sudo mv -n -T -- "$dir/$1" "$dir/$2" 2>/dev/null || $sudo mv -n -- "$dir/$1" "$dir/$2" || exit
	if there "$dir/$1"; then exit 62; fi # mv -n tells nothing
	[ "$($sudo stat -c '%d %i' -- "$dir/$2")" = "$moved" ] || exit 62
	sync_dir "$dir"
}

# make_accessible PATH: an ordinary user may be denied his own directories
make_accessible() {
	[ "$($sudo id -u)" = 0 ] || $sudo find "$1" -xdev -type d ! -perm -700 -exec chmod u+rwx {} \;
}
`

// scriptTreesWrite replaces a state file by its input: FILE SIZE.
const scriptTreesWrite = scriptTrees + `
for path in "$state" "$state/manifests"; do
	if $sudo test -L "$path"; then
		printf '%s\n' "$path is a symbolic link" >&2
		exit 66
	fi
	$sudo mkdir -p -m 700 -- "$path" || exit
done
file=$state/$1
if $sudo test -d "$file"; then
	printf '%s\n' "$file is a directory" >&2
	exit 66
fi
$sudo rm -f -- "$file.tmp" && $sudo tee -- "$file.tmp" >/dev/null && {
	size=$($sudo cat -- "$file.tmp" | wc -c)
	[ "$((size))" = "$2" ] || (exit 67)
} && $sudo chmod 600 -- "$file.tmp" && sync_dir "$dir" && $sudo mv -f -- "$file.tmp" "$file" && sync_dir "$dir" && exit
status=$?
$sudo rm -f -- "$file.tmp"
exit $status
`

// scriptTreesForget removes state files: FILE...
const scriptTreesForget = scriptTrees + `
if $sudo test -L "$state" || $sudo test -L "$state/manifests"; then exit 65; fi
for file; do $sudo rm -f -- "$state/$file" || exit; done
`

// scriptTreesTidy removes what interrupted writing left, and prints why the filesystem makes no hard links, if it does not.
const scriptTreesTidy = scriptTrees + `
$sudo sh -c 'rm -f -- "$1"/*.tmp "$1"/.*.tmp' sh "$state/manifests" || exit
if is_btrfs "$dir"; then
	fields ''
	exit
fi
probe=$state/probe
$sudo rm -f -- "$probe" "$probe.link" && $sudo tee -- "$probe" </dev/null || exit
fields "$($sudo ln -- "$probe" "$probe.link" 2>&1)"
$sudo rm -f -- "$probe" "$probe.link"
`

const scriptTreesMove = scriptTrees + `move "$1" "$2"` // FROM TO

// scriptTreesMake makes a hidden directory: HIDDEN BASE ID, where BASE is for subvolumes.
const scriptTreesMake = scriptTrees + `
if there "$dir/$1"; then exit 62; fi
if ! is_btrfs "$dir"; then
	$sudo mkdir -m 700 -- "$dir/$1"
elif [ -z "$2" ]; then
	$sudo btrfs subvolume create "$dir/$1" >/dev/null && $sudo chmod 700 -- "$dir/$1"
else
	must_be "$dir/$2" "$3"
	$sudo btrfs subvolume snapshot "$dir/$2" "$dir/$1" >/dev/null
fi
`

// scriptTreesReady makes a hidden directory ready for rsync, and prints whether it keeps nanoseconds: HIDDEN KIND, which is
// that of what is in it already.
const scriptTreesReady = scriptTrees + `
path=$dir/$1
is_directory "$path" || exit 65
several() { $sudo find "$path" -xdev ! -type d -links +1 "$@"; }
# Each name is removed that is not the last one when it is looked at. Removed in groups, which is faster, the last one may be, too.
case $2 in
subvolume)
	$sudo btrfs property set -ts "$path" ro false || exit
	several -delete 2>/dev/null || several -exec rm -f -- {} \; || exit
	;;
links)
	make_accessible "$path" || exit
	several -exec rm -f -- {} + || exit
	;;
esac
if [ -n "$2" ] && [ -n "$(several | head -n 1)" ]; then
	printf '%s\n' "files in $path still have several names" >&2
	exit 1
fi
case $($sudo stat -f -c %t -- "$path") in
9123683e | 58465342) fields 1 ;; # linux/magic.h: BTRFS_SUPER_MAGIC, XFS_SUPER_MAGIC
*)
	# not every touch can
	$sudo touch -d '2001-02-03 04:05:06.123456789' -- "$path" 2>/dev/null
	case $($sudo stat -c %y -- "$path") in
	*.123456789*) fields 1 ;;
	*) fields '' ;;
	esac
	;;
esac
`

// scriptTreesCount prints how many files the backup BASE had, how many of them are gone, how many there are now, and the sum of
// their sizes: BASE HIDDEN.
const scriptTreesCount = scriptTrees + `
# files NAME END: a line for each, in which a line break is a slash, and in the end END. What nobody may read is left out.
files() {
	$sudo sh -c 'cd "$1" || exit
	exec 3>&1
	if ! message=$(find . -xdev ! -type d -print0 2>&1 >&3); then
		if printf "%s\n" "$message" | grep -v ": Permission denied\$" >&2; then exit 1; fi
	fi
	printf "%s\0" "$2"' sh "$dir/$1" "$2" | tr '\n\000' '/\n'
}

base_files() {
	if [ -n "$1" ]; then files "$1" zbase; else echo zbase; fi
}

# in the old one only: twice; in the new one only: once; all paths stand before both ends
counts=$({ base_files "$1" | sed p; files "$2" znew; } | sort | uniq -c | awk '
	$2 == "zbase" { base = $1; next }
	$2 == "znew" { new = $1; next }
	$1 > 1 { had++ }
	$1 == 2 { gone++ }
	$1 % 2 { files++ }
	END {
		if (base != 2 || new != 1) exit 1
		printf "%.0f %.0f %.0f\n", had, gone, files
	}')
if [ -z "$counts" ]; then
	printf '%s\n' "the files in $dir/$2 cannot be counted" >&2
	exit 1
fi
bytes=$($sudo find "$dir/$2/." -xdev -type f -exec stat -c %s -- {} + | awk '{ sum += $1 } END { printf "%.0f\n", sum }')
fields "$counts $bytes"
`

// scriptTreesName makes what was copied a backup: HIDDEN NAME ID.
const scriptTreesName = scriptTrees + `
must_be "$dir/$1" "$3"
sync_dir "$dir" || exit
if [ -n "$3" ]; then $sudo btrfs property set -ts "$dir/$1" ro true || exit; fi
move "$1" "$2"
`

// scriptTreesRemove removes a directory or a subvolume, also from the disk: NAME ID.
const scriptTreesRemove = scriptTrees + `
there "$dir/$1" || exit 0
must_be "$dir/$1" "$2"
if [ -n "$2" ]; then
	$sudo btrfs subvolume delete "$dir/$1" >/dev/null || exit
else
	# unlike rm, find stays out of what is mounted there
	make_accessible "$dir/$1" &&
		$sudo find "$dir/$1" -xdev ! -type d -exec rm -f -- {} + &&
		$sudo find "$dir/$1" -xdev -depth -type d -exec rmdir -- {} + || exit
	if there "$dir/$1"; then exit 1; fi
fi
sync_dir "$dir"
`
