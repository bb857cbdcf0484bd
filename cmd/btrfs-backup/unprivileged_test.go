package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
)

const ordinaryUser = 12345

// ordinary is a user who is not root, with a subvolume and a folder of his own.
type ordinary struct {
	source      string
	destination string
	programs    string // directory of the program as he can run it
}

// newOrdinary makes both filesystems with the mount options.
func newOrdinary(t testing.TB, options ...string) ordinary {
	t.Helper()
	here, there := smallFS(t, options...), smallFS(t, options...)
	for _, disk := range []*btrfstest.FS{here, there} {
		if err := os.Chmod(filepath.Dir(disk.Dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	u := ordinary{
		source:      newSource(t, here.Dir, "home"),
		destination: makeDir(t, filepath.Join(there.Dir, "backups")),
		programs:    makeDir(t, filepath.Join(there.Dir, "programs")),
	}
	for _, path := range []string{u.source, filepath.Join(u.source, "file"), u.destination} {
		own(t, path)
	}
	u.install(t, "btrfs-backup")
	return u
}

func own(t testing.TB, path string) {
	t.Helper()
	if err := os.Chown(path, ordinaryUser, ordinaryUser); err != nil {
		t.Fatal(err)
	}
}

// install copies a program to where the user can run it, and gives its path.
func (u ordinary) install(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(u.programs, program)
	btrfstest.WriteProgram(t, copied, string(content))
	return copied
}

// invoke runs the program as the user.
func (u ordinary) invoke(t testing.TB, environ []string, args ...string) result {
	t.Helper()
	cmd := exec.Command(filepath.Join(u.programs, "btrfs-backup"), args...)
	cmd.Dir = "/"
	cmd.Env = append(append(os.Environ(), "PATH="+u.programs+":"+os.Getenv("PATH")), environ...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
	return invokeCmd(t, cmd)
}

func (u ordinary) succeed(t testing.TB, environ []string, args ...string) result {
	t.Helper()
	return expect(t, exitDone, u.invoke(t, environ, args...))
}

func TestOrdinaryUserTakesAndListsSnapshotsOfHisOwn(t *testing.T) {
	t.Parallel()
	u := newOrdinary(t)
	u.succeed(t, march(1), u.source)
	u.succeed(t, march(2), u.source)
	folder := filepath.Join(u.source, "snapshot")
	want(t, "snapshots", names(t, folder), "20260301-120000", "20260302-120000")
	points(t, filepath.Join(folder, ".latest"), "20260302-120000")

	var all []inventory.Entry
	r := u.succeed(t, nil, "list", "--json", u.source)
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Name != "20260301-120000" || all[0].Kind != inventory.Snapshot ||
		all[0].UUID.String() != uuid(t, "UUID", filepath.Join(folder, all[0].Name)) {
		t.Fatalf("%s", r.stdout)
	}
}

func TestOrdinaryUserDeletesWhereTheMountAllowsIt(t *testing.T) {
	t.Parallel()
	u := newOrdinary(t, "user_subvol_rm_allowed")
	for day := range 3 {
		u.succeed(t, march(day+1), "-w", "-N1", u.source)
	}
	want(t, "snapshots", names(t, filepath.Join(u.source, "snapshot")), "20260303-120000")
}

func TestOrdinaryUserIsToldWhatDeletingNeeds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, mount, option string }{
		{"without the mount option", "noatime", "-w"},
		{"without convert-rw", "user_subvol_rm_allowed", "-P"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			u := newOrdinary(t, test.mount)
			u.succeed(t, march(1), u.source)
			r := u.invoke(t, march(2), test.option, "-N1", u.source)
			expect(t, exitPartly, r, "btrfs-backup: error: deleting subvolume ", "20260301-120000",
				"CAP_SYS_ADMIN", "sudo", "user_subvol_rm_allowed", "--convert-rw")
			for _, name := range names(t, filepath.Join(u.source, "snapshot")) {
				path := filepath.Join(u.source, "snapshot", name)
				if ro := btrfstest.Run(t, "btrfs", "property", "get", "-ts", path, "ro"); ro != "ro=true" {
					t.Errorf("%s was left with %s", path, ro)
				}
			}
		})
	}
}

func TestOrdinaryUserIsToldWhatSendingNeeds(t *testing.T) {
	t.Parallel()
	u := newOrdinary(t)
	r := u.invoke(t, march(1), u.source, u.destination)
	expect(t, exitFailed, r, "btrfs-backup: error: sending 20260301-120000", "hint: to send subvolumes needs the capability CAP_SYS_ADMIN", "sudo", "setcap")
	want(t, "snapshots", names(t, filepath.Join(u.source, "snapshot")), "20260301-120000")
	want(t, "left at the destination", everything(t, u.destination))
}

func TestOrdinaryUserIsToldOfRootOnce(t *testing.T) {
	t.Parallel()
	u := newOrdinary(t)
	secret := makeDir(t, filepath.Join(filepath.Dir(u.destination), "secret"))
	r := u.invoke(t, march(1), u.source, secret+"/a b", secret+"/b", u.destination)
	expect(t, exitFailed, r, "permission was denied 2 more times\n",
		"\nbtrfs-backup: hint: sudo btrfs-backup "+u.source+" '"+secret+"/a b' "+secret+"/b "+u.destination+" (without root: see ")
	if told := strings.Count(r.stderr, "\nbtrfs-backup: "); told != 2 {
		t.Errorf("%d lines tell of it:\n%s", told, r.stderr)
	}
	expect(t, exitFailed, u.invoke(t, march(2), u.source, secret+"/b"), "secret: permission denied\nbtrfs-backup: hint: run as root (sudo), or ")
}

func TestOrdinaryUserBacksUpWithCapabilitiesOfThePrograms(t *testing.T) {
	t.Parallel()
	u := newOrdinary(t, "user_subvol_rm_allowed")
	btrfstest.Run(t, "setcap", "cap_sys_admin+ep", filepath.Join(u.programs, "btrfs-backup"))
	capable := u.install(t, "btrfs")
	btrfstest.Run(t, "setcap", "cap_sys_admin,cap_chown,cap_fowner,cap_dac_override,cap_fsetid,cap_mknod,cap_setfcap+ep", capable)

	var taken []string
	for day := range 3 {
		write(t, filepath.Join(u.source, "file"), strings.Repeat("changed ", day))
		u.succeed(t, march(day+1), "-w", "-n2", u.source, u.destination)
		taken = names(t, filepath.Join(u.source, "snapshot"))
	}
	want(t, "backups", names(t, u.destination), taken[1:]...)
	for _, name := range taken[1:] {
		isCopy(t, u.source, u.destination, name)
	}
	if got := uuid(t, "Parent UUID", filepath.Join(u.destination, taken[2])); got != uuid(t, "UUID", filepath.Join(u.destination, taken[1])) {
		t.Fatalf("%s is no increment, its parent is %s", taken[2], got)
	}
}

func TestOrdinaryUserDeletesNothingWhenTheListingFails(t *testing.T) {
	t.Parallel()
	u := newOrdinary(t, "user_subvol_rm_allowed")
	u.succeed(t, march(1), u.source)
	folder := filepath.Join(u.source, "snapshot")
	secret := subvolume(t, filepath.Join(folder, "of root"))
	if err := os.Chmod(secret, 0o700); err != nil {
		t.Fatal(err)
	}

	r := u.invoke(t, march(2), "-w", "-N1", u.source)
	if r.status == exitDone || !strings.Contains(r.stderr, secret) {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	if got := names(t, folder); got[0] != "20260301-120000" {
		t.Fatalf("snapshots: %q", got)
	}
}
