package draft

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

func TestSourcesAreWhatPeopleWorkInAndDisksAreElsewhere(t *testing.T) {
	t.Parallel()
	system, usb, more := btrfs.UUID{1}, btrfs.UUID{2}, btrfs.UUID{3}
	at := func(path string, filesystem btrfs.UUID, id uint64, within ...inner) mount {
		return mount{path, filesystem, btrfs.Subvolume{ID: id}, within}
	}
	in := func(path string, s btrfs.Subvolume) inner { return inner{path, s} }
	readOnly := at("/opt", system, 303)
	readOnly.ReadOnly = true
	found := find([]mount{
		at("/srv", system, 258),
		at("/", system, 256,
			in("var/lib/docker/btrfs/subvolumes/x", btrfs.Subvolume{ID: 300}), in("home/vm", btrfs.Subvolume{ID: 301}), in(".snapshots", btrfs.Subvolume{ID: 302})),
		at("/home", system, 257,
			in("snapshot/20260101-000000", btrfs.Subvolume{ID: 310, ReadOnly: true, ParentUUID: btrfs.UUID{9}}), in("me/copy", btrfs.Subvolume{ID: 311, ParentUUID: btrfs.UUID{9}}),
			in("me/got", btrfs.Subvolume{ID: 312, ReceivedUUID: btrfs.UUID{9}}), in("me/vm", btrfs.Subvolume{ID: 313}), in("me/fixed", btrfs.Subvolume{ID: 314, ReadOnly: true})),
		at("/.snapshots", system, 302),
		at("/tmp", system, 304),
		readOnly,
		at("/var", system, 305),
		at("/somewhere/var", system, 305), // once more
		at("/mnt/pool", system, 5, in("@home", btrfs.Subvolume{ID: 257}), in("@photos", btrfs.Subvolume{ID: 320})),
		at("/run/media/me/disk", usb, 5, in("laptop", btrfs.Subvolume{ID: 256})),
		at("/mnt/usb", usb, 5),
		at("/data/Backups", more, 5),
	})
	want := Found{
		Sources: []string{"/", "/home", "/home/me/vm", "/home/vm", "/mnt/pool/@photos", "/srv", "/var"},
		Disks:   []Disk{{"/mnt/usb", usb}, {"/data/Backups", more}},
	}
	if !reflect.DeepEqual(found, want) {
		t.Errorf("found\n%v\nwant\n%v", found, want)
	}
	for path, want := range map[string]bool{"/mnt/usb/laptop": true, "/mnt/usb": true, "/mnt/usb2/laptop": false, "/home": false} {
		if _, on := found.DiskOf(path); on != want {
			t.Errorf("%s is on a disk: %t", path, on)
		}
	}
}

func TestWhereAFolderWouldBeMadeCounts(t *testing.T) {
	t.Parallel()
	one, other := btrfstest.New(t, 128<<20), btrfstest.New(t, 128<<20)
	btrfstest.Run(t, "btrfs", "subvolume", "create", filepath.Join(one.Dir, "sub"))
	at := func(path string) Filesystem {
		t.Helper()
		f, err := FilesystemAt(path)
		btrfstest.Check(t, err)
		return f
	}
	if a, b := at(one.Dir), at(filepath.Join(one.Dir, "sub/a/b")); a != b || !a.IsBtrfs() {
		t.Errorf("%v and %v are on one filesystem", a, b)
	}
	if a, b := at(one.Dir), at(other.Dir); a == b {
		t.Errorf("%v is that of two", a)
	}
	if a, b := at("/proc/a"), at("/proc"); a != b || a.IsBtrfs() || a == at("/sys") {
		t.Errorf("%v, %v", a, b)
	}
	for path, want := range map[string]bool{one.Dir: true, filepath.Join(one.Dir, "sub"): true, "/proc": false} {
		if s, err := SourceAt(path); err != nil || s.Subvolume != want {
			t.Errorf("%+v: %v", s, err)
		}
	}
	file := filepath.Join(one.Dir, "file")
	btrfstest.Check(t, os.WriteFile(file, nil, 0o600))
	if _, err := SourceAt(file); err == nil {
		t.Error("a file is no source")
	}
	if _, err := SourceAt(file + "s"); err == nil || err.Error() != "there is no directory "+file+"s" || hint.Of(err) == "" {
		t.Errorf("of what is missing it tells %v", err)
	}
}

func TestTheTextHasAJobForEachSource(t *testing.T) {
	t.Parallel()
	c := Choice{
		Sources:     []Source{{"/", true}, {"/srv/a b", true}, {"/srv/a-b", false}},
		Destination: "nas:/backup/", Disk: &Disk{"/mnt/my disk", btrfs.UUID{15: 1}},
		Log: "/var/log/btrfs-backup", Every: "6h", KeepSnapshots: "7d", KeepBackups: "14d",
	}
	want := `# What is backed up, where to, and when. All keys: man btrfs-backup.toml
# After a change:  btrfs-backup config check

log = "/var/log/btrfs-backup" # info.log has a line for each backup

[default]
every = "6h" # hourly, daily, weekly, monthly; or 6h, 2d
keep-backups = "14d" # one for each of the newest days, weeks, ...

[disk.my-disk]
mount = "/mnt/my disk"
uuid = "00000000-0000-0000-0000-000000000001"
when-absent = "skip" # that it is away is no failure; "fail" makes it one

[job.root]
source = "/"
destination = "nas:/backup/root"
keep-snapshots = "7d" # here

[job.srv-a-b]
source = "/srv/a b"
destination = "nas:/backup/srv-a-b"
keep-snapshots = "7d" # here

[job.srv-a-b-2]
source = "/srv/a-b"
destination = "nas:/backup/srv-a-b-2"
` + tailText
	if got := c.Text(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
