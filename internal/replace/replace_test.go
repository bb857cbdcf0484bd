package replace

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

var check, run = btrfstest.Check, btrfstest.Run

// lab is a subvolume with snapshots in it, and one nested subvolume that can be written to.
type lab struct {
	testing.TB
	top     string // the top level
	dir     string // in which the subvolume is
	machine Machine
}

func newLab(t testing.TB, top, name string) *lab {
	l := &lab{t, top, filepath.Join(top, name), Machine{Root: "/", Fstab: "/nowhere", Cmdline: "/nowhere", Boot: "/nowhere"}}
	check(t, os.Mkdir(l.dir, 0o755))
	l.create("home")
	l.write("home/file", "one")
	check(t, os.Mkdir(l.path("home/snapshot"), 0o750))
	l.snap("home", "home/snapshot/1")
	l.write("home/file", "two")
	l.write("home/snapshot/"+lock.LedgerFile, "{}\n")
	check(t, os.Symlink("0", l.path("home/snapshot/.latest")))
	l.snap("home", "home/snapshot/2")
	l.write("home/file", "three")
	l.write("home/snapshot/"+lock.LedgerFile, `{"2": {}}`+"\n")
	check(t, os.Remove(l.path("home/snapshot/.latest")))
	check(t, os.Symlink("2", l.path("home/snapshot/.latest")))
	check(t, os.MkdirAll(l.path("home/snapshot/"+state.Dir+"/"+state.Manifests), 0o700))
	l.write("home/snapshot/"+state.Dir+"/about.json", "{}")
	check(t, os.MkdirAll(l.path("home/new/dir"), 0o700))
	l.create("home/new/dir/vm")
	l.write("home/new/dir/vm/disk", "data")
	return l
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }
func (l *lab) create(name string)      { run(l, "btrfs", "-q", "subvolume", "create", l.path(name)) }
func (l *lab) snap(of, name string) {
	run(l, "btrfs", "-q", "subvolume", "snapshot", "-r", l.path(of), l.path(name))
}
func (l *lab) write(name, text string) {
	l.Helper()
	check(l, os.WriteFile(l.path(name), []byte(text), 0o644))
}
func (l *lab) has(name string) bool { _, err := os.Lstat(l.path(name)); return err == nil }
func (l *lab) info(name string) btrfs.Subvolume {
	l.Helper()
	s, err := btrfs.Info(btrfstest.Open(l, l.path(name)))
	check(l, err)
	return s
}

func (l *lab) reads(name, want string) {
	l.Helper()
	if content, err := os.ReadFile(l.path(name)); err != nil || strings.TrimSpace(string(content)) != want {
		l.Errorf("%s holds %q, want %q: %v", name, content, want, err)
	}
}

func (l *lab) order(snapshot string) Order {
	l.Helper()
	return Order{Snapshot: l.info(snapshot).UUID, Folder: "snapshot", Aside: "home.before"}
}

func (l *lab) do(o Order) (Report, error) {
	top, dir := btrfstest.Open(l, l.top), btrfstest.Open(l, l.path("home"))
	if o.Name != "" {
		dir = btrfstest.Open(l, l.dir)
	}
	return Do(l.Context(), l.machine, top, dir, o)
}

// refuses tells that an order is refused, with a hint, and changes nothing.
func (l *lab) refuses(o Order, text string) {
	l.Helper()
	for _, o.DryRun = range []bool{true, false} {
		_, err := l.do(o)
		if err == nil || !strings.Contains(err.Error(), text) || hint.Of(err) == "" {
			l.Errorf("error: %v, hint: %q, want %q", err, hint.Of(err), text)
		}
	}
	l.reads("home/file", "three")
	if names := l.names("."); !slices.Equal(names, []string{"home"}) {
		l.Errorf("there are %q", names)
	}
}

func (l *lab) names(dir string) (names []string) {
	l.Helper()
	entries, err := os.ReadDir(l.path(dir))
	check(l, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// isReplaced tells that the first snapshot is in the place of the subvolume, with all that belongs to it.
func (l *lab) isReplaced(old btrfs.Subvolume, snapshots map[string]btrfs.Subvolume) {
	l.Helper()
	l.reads("home/file", "one")
	l.reads("home.before/file", "three")
	l.reads("home/new/dir/vm/disk", "data")
	l.reads("home/snapshot/"+lock.LedgerFile, `{"2": {}}`)
	l.reads("home/snapshot/"+state.Dir+"/about.json", "{}")
	l.reads("home/snapshot/.latest/file", "two")
	if names := l.names("."); !slices.Equal(names, []string{"home", "home.before"}) {
		l.Errorf("there are %q", names)
	}
	if names := l.names("home/snapshot"); !slices.Equal(names, []string{state.Dir, ".latest", lock.LedgerFile, "1", "2"}) {
		l.Errorf("snapshots: %q", names)
	}
	if s := l.info("home.before"); s.UUID != old.UUID {
		l.Errorf("the old one is another: %+v", s)
	}
	folder := btrfstest.Open(l, l.path("home/snapshot"))
	check(l, btrfs.SyncFilesystem(folder))
	found, err := btrfs.List(folder)
	check(l, err)
	for _, s := range found.InDirectory {
		was := snapshots[s.Name]
		if !s.ReadOnly || s.AlteredIn != 0 || s.UUID != was.UUID || s.ReceivedUUID != was.ReceivedUUID || s.SentIn != was.SentIn {
			l.Errorf("snapshot\n%+v, was\n%+v", s, was)
		}
	}
	if made := l.info("home"); made.ParentUUID != snapshots["1"].UUID || made.ReadOnly || !made.ReceivedUUID.IsZero() {
		l.Errorf("the new one: %+v", made)
	}
	if st, err := os.Stat(l.path("home/new")); err != nil || st.Mode().Perm() != 0o700 {
		l.Errorf("%v, %v", st, err)
	}
}

func (l *lab) snapshots() map[string]btrfs.Subvolume {
	return map[string]btrfs.Subvolume{"1": l.info("home/snapshot/1"), "2": l.info("home/snapshot/2")}
}

func TestTheOldSubvolumeStaysBesideWithoutWhatBelongsToTheNewOne(t *testing.T) {
	l := newLab(t, btrfstest.New(t, 256<<20).Dir, "lab")
	old, snapshots := l.info("home"), l.snapshots()
	dry := l.order("home/snapshot/1")
	dry.DryRun = true
	planned, err := l.do(dry)
	check(t, err)
	did, err := l.do(l.order("home/snapshot/1"))
	check(t, err)
	l.isReplaced(old, snapshots)
	if !slices.Equal(planned.Moved, did.Moved) || len(did.Moved) != 3 || did.Way != Exchange || did.AsideID != old.ID {
		t.Errorf("planned\n%+v\ndone\n%+v", planned, did)
	}
}

func TestANameThatIsTakenGetsANumber(t *testing.T) {
	l := newLab(t, btrfstest.New(t, 256<<20).Dir, "lab")
	for _, aside := range []string{"home.before", "home.before.2", "home.before.3"} {
		did, err := l.do(l.order("home/snapshot/1"))
		check(t, err)
		if filepath.Base(did.Aside) != aside || !l.has(aside) || l.has(Hidden("home")) {
			t.Errorf("%+v, %q", did, l.names("."))
		}
	}
}

func TestAnAlteredSnapshotStaysAnAlteredOne(t *testing.T) {
	l := newLab(t, btrfstest.New(t, 256<<20).Dir, "lab")
	run(t, "sh", "-c", `btrfs -q send -q "$1/home/snapshot/2" | btrfs -q receive -q "$1"`, "sh", l.dir)
	dir := btrfstest.Open(t, l.dir)
	check(t, btrfs.SetReadOnly(dir, "2", false))
	l.write("2/file", "forged")
	check(t, btrfs.SetReadOnly(dir, "2", true))
	was := l.info("2")
	check(t, btrfs.SyncFilesystem(dir))
	check(t, moveSnapshot(dir, "2", btrfstest.Open(t, l.path("home"))))
	if is := l.info("home/2"); is.ReceivedIn != was.ReceivedIn || is.ReceivedUUID != was.ReceivedUUID || !is.ReadOnly {
		t.Errorf("it is\n%+v, was\n%+v", is, was)
	}

	// what forgot as what it was received is told by its name
	check(t, btrfs.SetReadOnly(btrfstest.Open(t, l.path("home")), "2", false))
	hidden := movingName(was)
	check(t, os.Rename(l.path("home/2"), l.path("home/"+hidden)))
	check(t, btrfs.SetReceived(btrfstest.Open(t, l.path("home/"+hidden)), btrfs.UUID{}))
	check(t, arrive(btrfstest.Open(t, l.path("home")), hidden))
	if is := l.info("home/2"); is.ReceivedUUID != was.ReceivedUUID {
		t.Errorf("it is\n%+v, was\n%+v", is, was)
	}
}

type killed struct{ step string }

// isKilledAtEach lets an order end at its first step, then at its second, until it comes to its end.
func isKilledAtEach(t *testing.T, begin func(at int) *lab, order func(*lab) Order, after func(l *lab, step string), names ...string) {
	t.Helper()
	var steps []string
	defer failpoint.OnReach(func(string) {})
	for at := 1; ; at++ {
		l := begin(at)
		o := order(l)
		step := killAt(l, o, at)
		failpoint.OnReach(func(string) {})
		after(l, step)
		if step == "" {
			break
		}
		steps = append(steps, step)
	}
	for _, name := range names {
		if !slices.Contains(steps, name) {
			t.Errorf("not killed at %q, but at %q", name, steps)
		}
	}
}

func killAt(l *lab, o Order, at int) (step string) {
	left := at
	failpoint.OnReach(func(step string) {
		if left--; left == 0 {
			panic(killed{step})
		}
	})
	defer func() {
		if r, is := recover().(killed); is {
			step = r.step
		}
	}()
	_, err := l.do(o)
	check(l, err)
	return ""
}

func TestKilledAtAnyStepOneOfTheTwoIsInPlaceAndTheSameOrderGoesOn(t *testing.T) {
	top := btrfstest.New(t, 512<<20).Dir
	var old btrfs.Subvolume
	var snapshots map[string]btrfs.Subvolume
	exchanged := false
	isKilledAtEach(t, func(at int) *lab {
		l := newLab(t, top, "lab"+strings.Repeat("x", at))
		run(t, "sh", "-c", `btrfs -q send -q "$1/home/snapshot/2" | btrfs -q receive -q "$1"`, "sh", l.dir)
		run(t, "btrfs", "-q", "subvolume", "delete", l.path("home/snapshot/2"))
		check(t, moveSnapshot(btrfstest.Open(t, l.dir), "2", btrfstest.Open(t, l.path("home/snapshot"))))
		old, snapshots = l.info("home"), l.snapshots()
		if snapshots["2"].ReceivedUUID.IsZero() {
			t.Fatal("it is not received")
		}
		return l
	}, func(l *lab) Order { return l.order("home/snapshot/1") }, func(l *lab, step string) {
		switch content, err := os.ReadFile(l.path("home/file")); {
		case err != nil:
			t.Errorf("killed after %q: %v", step, err)
		case string(content) == "three" && exchanged:
			t.Errorf("killed after %q: the old one is back", step)
		case string(content) == "three":
			for _, name := range []string{"home/snapshot/1/file", "home/snapshot/2/file", "home/new/dir/vm/disk"} {
				if !l.has(name) {
					t.Errorf("killed after %q: %s is gone", step, name)
				}
			}
		case string(content) == "one":
			exchanged = true
		}
		if step == "" {
			return
		}
		did, err := l.do(Order{Folder: "snapshot", Aside: "home.before"})
		if err != nil {
			t.Fatalf("after %q: %v", step, err)
		}
		if step != "old subvolume named" && did.Of != snapshots["1"].UUID {
			_, err = l.do(l.order("home/snapshot/1"))
			check(t, err)
		}
		l.isReplaced(old, snapshots)
		if t.Failed() {
			t.Fatalf("killed after %q", step)
		}
	}, "writable snapshot made", "subvolumes exchanged", "snapshot hidden", "snapshot writable", "snapshot moved", "snapshot read-only",
		"nested subvolume moved", "ledger copied", "records copied", "old subvolume named")
}

func TestANewSubvolumeTakesWhatWasReceivedForIt(t *testing.T) {
	top := btrfstest.New(t, 512<<20).Dir
	var received btrfs.Subvolume
	isKilledAtEach(t, func(at int) *lab {
		l := newLab(t, top, "lab"+strings.Repeat("x", at))
		check(t, os.MkdirAll(l.path(Hidden("back")+"/.btrfs-backup"), 0o700))
		l.write(Hidden("back")+"/.btrfs-backup/origins.json", "{}")
		run(t, "sh", "-c", `btrfs -q send -q "$1/home/snapshot/2" | btrfs -q receive -q "$2"`, "sh", l.dir, l.path(Hidden("back")))
		received = l.info(Hidden("back") + "/2")
		return l
	}, func(*lab) Order { return Order{Snapshot: received.UUID, Name: "back", Folder: "snapshot"} }, func(l *lab, step string) {
		if step != "" && step != "hidden directory removed" {
			if l.has("back") != l.has("back/snapshot/2") {
				t.Errorf("killed after %q: it has its name, but not its snapshot", step)
			}
			did, err := l.do(Order{Name: "back", Folder: "snapshot"})
			check(t, err)
			if did.Resumed != l.has("back") {
				t.Errorf("killed after %q: %+v", step, did)
			}
			if !did.Resumed {
				_, err = l.do(Order{Snapshot: received.UUID, Name: "back", Folder: "snapshot"})
				check(t, err)
			}
		}
		l.reads("back/file", "two")
		l.reads("back/snapshot/"+state.Dir+"/origins.json", "{}")
		if l.has("back/snapshot/.latest") || l.has("back/snapshot/1") {
			t.Errorf("snapshots: %q", l.names("back/snapshot"))
		}
		s := l.info("back/snapshot/2")
		if names := l.names("."); !slices.Equal(names, []string{"back", "home"}) || !s.Received() || s.UUID != received.UUID ||
			s.ReceivedUUID != received.ReceivedUUID || s.SentIn != received.SentIn || !s.ReadOnly || l.info("back").ParentUUID != s.UUID {
			t.Fatalf("killed after %q: %q, %+v", step, names, s)
		}
	}, "writable snapshot made", "snapshot writable", "snapshot moved", "snapshot arrived", "subvolume in its place")
}

func TestANewSubvolumeMayHaveTheNameOfWhatWasReceivedForIt(t *testing.T) {
	top := btrfstest.New(t, 512<<20).Dir
	l := newLab(t, top, "lab")
	check(t, os.MkdirAll(l.path(Hidden("2")+"/.btrfs-backup"), 0o700))
	l.write(Hidden("2")+"/.btrfs-backup/origins.json", "{}")
	run(t, "sh", "-c", `btrfs -q send -q "$1/home/snapshot/2" | btrfs -q receive -q "$2"`, "sh", l.dir, l.path(Hidden("2")))
	received := l.info(Hidden("2") + "/2")
	_, err := l.do(Order{Snapshot: received.UUID, Name: "2", Folder: "snapshot"})
	check(t, err)
	l.reads("2/file", "two")
	if s := l.info("2/snapshot/2"); s.UUID != received.UUID || l.info("2").ParentUUID != s.UUID {
		t.Errorf("%+v", s)
	}
}

func TestTheDefaultSubvolumeStaysTheDefault(t *testing.T) {
	l := newLab(t, btrfstest.New(t, 256<<20).Dir, "lab")
	run(t, "btrfs", "subvolume", "set-default", l.path("home"))
	did, err := l.do(l.order("home/snapshot/1"))
	check(t, err)
	if out := run(t, "btrfs", "subvolume", "get-default", l.top); !did.Default || !strings.HasSuffix(strings.TrimSpace(out), "lab/home") {
		t.Errorf("%+v, %s", did, out)
	}
	run(t, "btrfs", "-q", "subvolume", "delete", l.path("home.before"))
}

func TestWhatIsMountedGoesOnWithTheOldOne(t *testing.T) {
	fs := btrfstest.New(t, 256<<20)
	l := newLab(t, fs.Dir, "lab")
	mounted := filepath.Join(t.TempDir(), "home")
	fs.Mount(t, mounted, "subvol=lab/home")
	open := btrfstest.Open(t, mounted+"/file")
	top := btrfstest.Open(t, l.top)
	did, err := Do(t.Context(), l.machine, top, btrfstest.Open(t, mounted), l.order("home/snapshot/1"))
	check(t, err)
	content := make([]byte, 10)
	n, _ := open.Read(content)
	if string(content[:n]) != "three" || !slices.Equal(did.Mounts, []string{mounted}) {
		t.Errorf("%q, %+v", content[:n], did)
	}
	if old, err := os.ReadFile(mounted + "/file"); err != nil || string(old) != "three" {
		t.Errorf("%s, %v", old, err)
	}
	l.reads("home/file", "one")
}

func TestWhatCannotBeReplacedIsRefusedAndNothingIsMade(t *testing.T) {
	fs := btrfstest.New(t, 512<<20)
	tests := []struct {
		name, want string
		prepare    func(l *lab, o *Order)
	}{
		{"a read-only subvolume in it", "/home/other is read-only", func(l *lab, _ *Order) { l.snap("home", "home/other") }},
		{"something in the way", "something else at blocked", func(l *lab, o *Order) {
			l.create("with")
			l.write("with/blocked", "")
			l.snap("with", "home/snapshot/3")
			run(l, "btrfs", "-q", "subvolume", "delete", l.path("with"))
			l.create("home/blocked")
			*o = l.order("home/snapshot/3")
		}},
		{"a mount on one in it", "mounted on", func(l *lab, _ *Order) {
			run(l, "mount", "-t", "tmpfs", "none", l.path("home/new/dir/vm"))
			l.Cleanup(func() { run(l, "umount", l.path("home/new/dir/vm")) })
		}},
		{"a mount by its ID", "mounts the old subvolume by its ID, which the new one does not have: /dev/sdx /home btrfs subvolid=", func(l *lab, _ *Order) {
			l.machine.Fstab = filepath.Join(l.TempDir(), "fstab")
			id := run(l, "btrfs", "inspect-internal", "rootid", l.path("home"))
			check(l, os.WriteFile(l.machine.Fstab, []byte("# x\nUUID=1 / ext4 defaults 0 0\n/dev/sdx /home btrfs subvolid="+id), 0o644))
		}},
		{"a mount by its ID in the restored root", "/etc/fstab in the backup mounts the old subvolume by its ID", func(l *lab, o *Order) {
			id := run(l, "btrfs", "inspect-internal", "rootid", l.path("home"))
			run(l, "btrfs", "-q", "subvolume", "snapshot", l.path("home"), l.path("root"))
			check(l, os.Mkdir(l.path("root/etc"), 0o755))
			l.write("root/etc/fstab", "/dev/sdx / btrfs subvolid="+id)
			l.snap("root", "home/snapshot/3")
			run(l, "btrfs", "-q", "subvolume", "delete", l.path("root"))
			*o = l.order("home/snapshot/3")
		}},
		{"the running system", "the root of the running system", func(l *lab, _ *Order) { l.machine.Root = l.path("home") }},
		{"one mounted by its ID by the kernel", "the kernel's command line", func(l *lab, o *Order) {
			l.machine.Root, o.Running = l.path("home"), true
			l.machine.Cmdline = filepath.Join(l.TempDir(), "cmdline")
			id := strings.TrimSpace(run(l, "btrfs", "inspect-internal", "rootid", l.path("home")))
			check(l, os.WriteFile(l.machine.Cmdline, []byte("quiet rootflags=noatime,subvolid="+id+" ro\n"), 0o644))
		}},
		{"a snapshot whose name leaves no room", "file name too long", func(l *lab, _ *Order) {
			l.snap("home", "home/snapshot/"+strings.Repeat("x", 250))
		}},
		{"a name that leaves no room", "file name too long", func(_ *lab, o *Order) { o.Aside = strings.Repeat("x", 255) }},
		{"a read-only one", "is read-only", func(l *lab, _ *Order) {
			run(l, "btrfs", "property", "set", "-ts", l.path("home"), "ro", "true")
		}},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t, fs.Dir, "lab"+strings.Repeat("x", i))
			o := l.order("home/snapshot/1")
			test.prepare(l, &o)
			l.refuses(o, test.want)
		})
	}
	_, err := Do(t.Context(), ThisMachine, btrfstest.Open(t, fs.Dir), btrfstest.Open(t, fs.Dir), Order{})
	if err == nil || hint.Of(err) == "" {
		t.Errorf("the top level: %v", err)
	}
	if _, err := Do(t.Context(), ThisMachine, btrfstest.Open(t, fs.Dir), btrfstest.Open(t, fs.Dir+"/lab"), Order{}); !errors.Is(err, btrfs.ErrNotSubvolume) {
		t.Errorf("a directory: %v", err)
	}
}

func TestSubvolumesCanBeLeftInTheOldOne(t *testing.T) {
	l := newLab(t, btrfstest.New(t, 256<<20).Dir, "lab")
	l.snap("home", "home/other")
	o := l.order("home/snapshot/1")
	o.LeaveNested = true
	did, err := l.do(o)
	check(t, err)
	if !l.has("home.before/other/file") || !l.has("home.before/new/dir/vm/disk") || !l.has("home/snapshot/2/file") || len(did.Left) != 2 {
		t.Errorf("%+v", did)
	}
}

func TestARootOfSnapperBecomesItsNextSnapshot(t *testing.T) {
	l := newLab(t, btrfstest.New(t, 256<<20).Dir, "lab")
	check(t, os.MkdirAll(l.path(".snapshots/1"), 0o755))
	check(t, os.MkdirAll(l.path(".snapshots/4"), 0o755))
	run(t, "btrfs", "-q", "subvolume", "snapshot", l.path("home"), l.path(".snapshots/1/snapshot"))
	root := l.path(".snapshots/1/snapshot")
	top := btrfstest.Open(t, l.top)
	o := l.order("home/snapshot/1")
	o.Running = true
	l.machine.Root = root
	if _, err := Do(t.Context(), l.machine, top, btrfstest.Open(t, root), o); err == nil || hint.Of(err) == "" {
		t.Errorf("one that is not the default: %v", err)
	}
	run(t, "btrfs", "subvolume", "set-default", root)
	did, err := Do(t.Context(), l.machine, top, btrfstest.Open(t, root), o)
	check(t, err)
	l.reads(".snapshots/1/snapshot/file", "three")
	l.reads(".snapshots/5/snapshot/file", "one")
	info, err := os.ReadFile(l.path(".snapshots/5/info.xml"))
	if err != nil || !strings.Contains(string(info), "<num>5</num>") {
		t.Errorf("%s, %v", info, err)
	}
	if out := run(t, "btrfs", "subvolume", "get-default", l.top); !strings.HasSuffix(strings.TrimSpace(out), ".snapshots/5/snapshot") || did.Way != Default || !did.Running {
		t.Errorf("%+v, %s", did, out)
	}
	if names := l.names(".snapshots"); !slices.Equal(names, []string{"1", "4", "5"}) {
		t.Errorf("%q", names)
	}
	again, err := Do(t.Context(), l.machine, top, btrfstest.Open(t, root), o)
	if err != nil || again.UUID != did.UUID {
		t.Errorf("again: %+v, %v", again, err)
	}
}

func TestKernelsWithoutModulesAreTold(t *testing.T) {
	l := newLab(t, btrfstest.New(t, 256<<20).Dir, "lab")
	boot := t.TempDir()
	check(t, os.WriteFile(boot+"/vmlinuz-6.1", nil, 0o644))
	l.machine.Root, l.machine.Boot = l.path("home"), boot
	o := l.order("home/snapshot/1")
	o.Running, o.DryRun = true, true
	did, err := l.do(o)
	if err != nil || len(did.Warnings) != 1 || !strings.Contains(did.Warnings[0], "6.1") {
		t.Errorf("%+v, %v", did, err)
	}
	check(t, os.MkdirAll(l.path("home/usr/lib/modules/6.1"), 0o755))
	l.snap("home", "home/snapshot/3")
	o.Snapshot = l.info("home/snapshot/3").UUID
	if did, err := l.do(o); err != nil || len(did.Warnings) > 0 {
		t.Errorf("%+v, %v", did, err)
	}
}
