package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

const version = "9.9.9"

// clone is the present commit in a directory of its own.
func clone(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "sources")
	btrfstest.Run(t, "git", "-c", "safe.directory=*", "clone", "--quiet", "--no-hardlinks", ".", dir)
	return dir
}

// built is a release that all tests share; kept is the directory that it is in.
var built = sync.OnceValues(func() (string, error) { return os.MkdirTemp("/dev/shm", "release") })

// release builds a release, once.
func release(t *testing.T) string {
	t.Helper()
	btrfstest.OnlyInAll(t)
	btrfstest.RequireRoot(t)
	dir, err := built()
	btrfstest.Check(t, err)
	dir = filepath.Join(dir, version)
	if _, err := os.Stat(filepath.Join(dir, "SHA256SUMS")); err != nil {
		key := filepath.Join(t.TempDir(), "key")
		btrfstest.Run(t, "minisign", "-G", "-W", "-p", key+".pub", "-s", key)
		t.Setenv("MINISIGN_KEY", key)
		btrfstest.Run(t, filepath.Join(clone(t), "scripts/release"), version, dir)
		btrfstest.Check(t, os.Unsetenv("MINISIGN_KEY"))
		btrfstest.Run(t, "minisign", "-V", "-p", key+".pub", "-m", filepath.Join(dir, "SHA256SUMS"))
	}
	return dir
}

func TestTwoReleasesOfACommitAreEqual(t *testing.T) {
	first := release(t)
	other := clone(t)
	t.Setenv("GOFLAGS", "-buildvcs=true")
	t.Setenv("TZ", "Asia/Tokyo")
	btrfstest.Run(t, "sh", "-c", "umask 077 && "+other+"/scripts/release v"+version)
	btrfstest.Run(t, "diff", "-r", "-x", "SHA256SUMS.minisig", first, filepath.Join(other, "build", version))
	btrfstest.Run(t, "sh", "-ec", "cd "+first+" && sha256sum --check --strict SHA256SUMS")
	told := btrfstest.Run(t, filepath.Join(first, "btrfs-backup-linux-amd64"), "--version")
	if form := `^btrfs-backup 9\.9\.9 \([0-9a-f]{12}, 20\d\d-\d\d-\d\d\)$`; !regexp.MustCompile(form).MatchString(told) {
		t.Errorf("--version tells %q", told)
	}
}

func TestAReleaseRefusesWhatIsNoVersion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ arguments, want string }{
		{"", "give it a version"},
		{"1.0", "1.0 is no version: write it as 1.2.3 or 1.2.3-rc.1"},
		{"9.9.9 docs", "is not empty"}, // what is there stays
	} {
		told := btrfstest.Run(t, "sh", "-c", "! scripts/release "+test.arguments+" 2>&1")
		if !strings.Contains(told, test.want) {
			t.Errorf("%s: %q, want %q", test.arguments, told, test.want)
		}
	}
}

// inDebian is run in a Debian, where /packages has the packages and /disk is a place for filesystems. The package is upgraded
// before and after what sets it up.
const inDebian = `
export DEBIAN_FRONTEND=noninteractive HOME=/root
dpkg -i /packages/old.deb
dpkg -i /packages/new.deb
btrfs-backup --version | grep -F 'btrfs-backup 9.9.9 ('
man -w btrfs-backup btrfs-backup-restore btrfs-backup.toml
bash -c '. /usr/share/bash-completion/bash_completion ; _completion_loader btrfs-backup; complete -p btrfs-backup'
test -s /usr/share/zsh/vendor-completions/_btrfs-backup -a -s /usr/share/fish/vendor_completions.d/btrfs-backup.fish
ln -s btrfs-backup-disk@.service /tmp/btrfs-backup-disk@usb.service
cp /usr/lib/systemd/system/btrfs-backup-disk@.service /tmp/
systemd-analyze verify /usr/lib/systemd/system/btrfs-backup.timer /tmp/btrfs-backup-disk@usb.service
test "$(systemctl is-enabled btrfs-backup.timer || true)" = disabled
test ! -e /etc/btrfs-backup

mkfs.btrfs -q /disk/a.img
mkfs.btrfs -q /disk/b.img
mkdir /disk/a /disk/b
mount -o loop /disk/a.img /disk/a
mount -o loop /disk/b.img /disk/b
btrfs subvolume create /disk/a/home
echo hello >/disk/a/home/file
mkdir /etc/btrfs-backup
printf '[job.home]\nsource = "/disk/a/home"\ndestination = "/disk/b/home"\nevery = "daily"\n' >/etc/btrfs-backup/config.toml
chmod 600 /etc/btrfs-backup/config.toml
btrfs-backup run
btrfs-backup status
grep -r hello /disk/b/home/2*
for example in /usr/share/doc/btrfs-backup/examples/*.toml; do
	cp $example /tmp/example.toml
	chmod 600 /tmp/example.toml
	btrfs-backup config check --config /tmp/example.toml
done
mkdir -p /etc/cron.d
btrfs-backup install
grep ' /usr/bin/btrfs-backup run' /etc/cron.d/btrfs-backup
systemctl enable btrfs-backup.timer
dpkg -i /packages/new.deb
test -e /etc/cron.d/btrfs-backup
dpkg -i /packages/agents.deb
test -x /usr/lib/btrfs-backup/agents/btrfs-backup-linux-arm
dpkg -P btrfs-backup-agents
dpkg -r btrfs-backup
test ! -e /etc/cron.d/btrfs-backup
dpkg -P btrfs-backup
grep -r hello /disk/b/home/2*
umount /disk/a /disk/b
find /etc /usr /var/lib /root /home -name '*btrfs-backup*' | sort >/left
printf '/etc/btrfs-backup\n/var/lib/btrfs-backup\n' | diff - /left
test -s /etc/btrfs-backup/config.toml -a -s /var/lib/btrfs-backup/destinations.json
`

func TestADebianInstallsUsesUpgradesAndPurgesThePackage(t *testing.T) {
	dir := release(t)
	root := filepath.Join("/dev/shm", "debian")
	t.Cleanup(func() { btrfstest.Run(t, "rm", "-rf", "--one-file-system", root) })
	btrfstest.Run(t, "mmdebstrap", "--variant=minbase", "--include=systemd,man-db,btrfs-progs,rsync,bash-completion", "bookworm", root)
	packages := filepath.Join(root, "packages")
	btrfstest.Check(t, os.MkdirAll(filepath.Join(root, "disk"), 0o755))
	btrfstest.Check(t, os.Mkdir(packages, 0o755))
	deb := filepath.Join(dir, "btrfs-backup_"+version+"-1_amd64.deb")
	btrfstest.Run(t, "cp", deb, packages+"/new.deb")
	btrfstest.Run(t, "cp", filepath.Join(dir, "btrfs-backup-agents_"+version+"-1_all.deb"), packages+"/agents.deb")
	btrfstest.Run(t, "sh", "-ec", `cd "$1"
		dpkg-deb -R new.deb old
		sed -i 's/^Version: .*/Version: 0.9.0-1/' old/DEBIAN/control
		dpkg-deb -Znone -b old old.deb
		rm -r old
		truncate -s 256M ../disk/a.img ../disk/b.img`, "sh", packages)
	btrfstest.Run(t, "unshare", "--mount", "--pid", "--fork", "sh", "-ec", `mount --rbind /dev "$1/dev"
		mount -t proc proc "$1/proc"
		chroot "$1" bash -exc "$2"`, "sh", root, inDebian)
}

func TestLintianIsQuiet(t *testing.T) {
	dir := release(t)
	for _, name := range []string{"btrfs-backup_" + version + "-1_amd64.deb", "btrfs-backup-agents_" + version + "-1_all.deb"} {
		if told := btrfstest.Run(t, "lintian", "--allow-root", "--fail-on", "error,warning", filepath.Join(dir, name)); told != "" {
			t.Errorf("%s: %s", name, told)
		}
	}
}

func TestRPMInstallsThePackage(t *testing.T) {
	dir := release(t)
	root := t.TempDir()
	for _, name := range []string{"btrfs-backup-" + version + "-1.x86_64.rpm", "btrfs-backup-agents-" + version + "-1.noarch.rpm"} {
		path := filepath.Join(dir, name)
		btrfstest.Run(t, "rpm", "--checksig", path)
		btrfstest.Run(t, "rpm", "--root", root, "--install", "--noscripts", "--nodeps", path)
	}
	for _, name := range []string{"bin/btrfs-backup", "lib/systemd/system/btrfs-backup.timer", "share/man/man8/btrfs-backup.8.gz",
		"share/zsh/site-functions/_btrfs-backup", "share/licenses/btrfs-backup/THIRD-PARTY", "share/doc/btrfs-backup/CHANGELOG.md",
		"share/bash-completion/completions/btrfs-backup", "share/fish/vendor_completions.d/btrfs-backup.fish"} {
		if _, err := os.Stat(filepath.Join(root, "usr", name)); err != nil {
			t.Error(err)
		}
	}
	owned := "\n" + btrfstest.Run(t, "rpm", "--root", root, "--query", "--list", "btrfs-backup") + "\n"
	for _, dir := range []string{"/usr", "/usr/bin", "/usr/lib", "/usr/share", "/usr/share/man/man8", "/usr/lib/systemd/system"} {
		if strings.Contains(owned, "\n"+dir+"\n") {
			t.Errorf("the package owns %s", dir)
		}
	}
	told := btrfstest.Run(t, filepath.Join(root, "usr/bin/btrfs-backup"), "--version")
	if !strings.HasPrefix(told, "btrfs-backup "+version+" (") {
		t.Errorf("--version tells %q", told)
	}
}

// asMakepkg runs the functions of a PKGBUILD in the sources as makepkg does.
const asMakepkg = `
. "$1/PKGBUILD"
srcdir=$2 pkgdir=$2/pkg
echo "${sha256sums[0]}  $1/${source[0]##*/}" | sha256sum --check
tar -C "$srcdir" -xf "$1/${source[0]##*/}"
for step in prepare build package; do (cd "$srcdir" && $step); done
test -s "$pkgdir/usr/share/licenses/$pkgname/LICENSE" -a -s "$pkgdir/usr/lib/systemd/system/btrfs-backup.timer"
"$pkgdir/usr/bin/btrfs-backup" --version | diff - <("$1/btrfs-backup-linux-amd64" --version)
`

func TestThePKGBUILDBuildsFromTheSources(t *testing.T) {
	btrfstest.Run(t, "bash", "-euc", asMakepkg, "bash", release(t), t.TempDir())
}

// goInstall makes a proxy that has the sources under a tag, and of other modules what is in the cache here.
const goInstall = `
path=github.com/btrfs-backup/btrfs-backup cache=$(go env GOMODCACHE)
at=$1/proxy/$path/@v
mkdir -p "$at"
cp go.mod "$at/v1.9.9.mod"
echo '{"Version":"v1.9.9"}' >"$at/v1.9.9.info"
echo v1.9.9 >"$at/list"
git -c safe.directory='*' archive --format=zip --prefix="$path@v1.9.9/" -o "$at/v1.9.9.zip" HEAD . ':!scripts/objectserver' ':!scripts/packages'
cd "$1"
export GOMODCACHE=$1/cache GOBIN=$1/bin GOSUMDB=off GOFLAGS=-modcacherw
GOPROXY=file://$1/proxy,file://$cache/cache/download go install $path/cmd/btrfs-backup@v1.9.9
`

func TestGoInstallFetchesTheProgram(t *testing.T) {
	btrfstest.OnlyInAll(t)
	dir := t.TempDir()
	btrfstest.Run(t, "bash", "-euc", goInstall, "bash", dir)
	if told := btrfstest.Run(t, filepath.Join(dir, "bin/btrfs-backup"), "--version"); told != "btrfs-backup 1.9.9" {
		t.Errorf("--version tells %q", told)
	}
}
