package main

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// A relayRig has a disk with backups of the machine's source, which are sent on to a store, and to a folder on another filesystem.
type relayRig struct {
	*machine
	disk, far, store string
	identity         *age.X25519Identity
	held             map[string]string // what the source held at each backup, by its name
}

// newRelayRig makes one with a job that fills the disk by an engine, keeping two days, and one that sends on from there.
func newRelayRig(t testing.TB, engine string) *relayRig {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	btrfstest.Check(t, err)
	r := &relayRig{machine: newMachine(t), identity: identity, held: make(map[string]string)}
	r.disk, r.far, r.store = filepath.Join(smallFS(t).Dir, "home"), filepath.Join(smallFS(t).Dir, "home"), t.TempDir()
	write(t, filepath.Join(r.dir, "recipients"), identity.Recipient().String()+"\n")
	r.configure(`[default]
keep-snapshots = "1d"
[job.first]
source = "SOURCE"
engine = "%s"
destination = [%q]
keep-backups = "2d"
[job.second]
source = %q
relay = true
destination = ["store:%s", %q]
keep-backups = "3d2m"
recipients = "DIR/recipients"
one-recipient = true
`, engine, r.disk, r.disk, r.store, r.far)
	return r
}

// pass lets days pass, with a run on each.
func (r *relayRig) pass(days int) {
	r.Helper()
	for range days {
		r.days(1)
		expect(r, exitDone, r.run())
		dated := r.dated(r.disk)
		content, err := os.ReadFile(filepath.Join(r.source, "file"))
		btrfstest.Check(r, err)
		r.held[dated[len(dated)-1]] = string(content)
	}
}

// catalog tells what the store has: of a single source.
func (r *relayRig) catalog() (*store.Store, *store.Catalog) {
	r.Helper()
	bucket, err := object.OpenFolder(r.store, r.store)
	btrfstest.Check(r, err)
	r.Cleanup(func() { bucket.Close() })
	s, err := store.Open(r.Context(), bucket, store.Options{Log: slog.New(slog.DiscardHandler)})
	btrfstest.Check(r, err)
	sources, err := s.Sources(r.Context())
	btrfstest.Check(r, err)
	host, err := os.Hostname()
	btrfstest.Check(r, err)
	want(r, "sources in the store", sources, store.SourceName(host, r.source))
	c, err := s.Catalog(r.Context(), sources[0])
	btrfstest.Check(r, err)
	return s, c
}

// restored receives all backups of the store, in order, and gives the folder.
func (r *relayRig) restored(s *store.Store, c *store.Catalog) (folder string) {
	r.Helper()
	folder = smallFS(r).Dir
	for i := range c.Backups {
		stream := s.Stream(r.Context(), &c.Backups[i].Manifest, seal.Identities{r.identity})
		content, err := io.ReadAll(stream)
		btrfstest.Check(r, err)
		btrfstest.Check(r, stream.Close())
		cmd := exec.Command("btrfs", "receive", "-q", folder)
		cmd.Stdin = bytes.NewReader(content)
		if said, err := cmd.CombinedOutput(); err != nil {
			r.Fatalf("btrfs receive: %v: %s", err, said)
		}
	}
	return folder
}

// holds fails the test unless backups in a folder hold what the source did.
func (r *relayRig) holds(folder string, names []string) {
	r.Helper()
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(folder, name, "file"))
		if btrfstest.Check(r, err); string(content) != r.held[name] {
			r.Errorf("%s/%s holds %q instead of %q", folder, name, content, r.held[name])
		}
	}
}

func namesIn(c *store.Catalog) (names []string) {
	for _, b := range c.Backups {
		names = append(names, b.Name)
	}
	return names
}

// TestBackupsOnADiskAreSentOnForWeeksWhileBothSidesArePruned from 3 March to 9 April, one a day.
func TestBackupsOnADiskAreSentOnForWeeksWhileBothSidesArePruned(t *testing.T) {
	for _, engine := range []string{"rsync", "btrfs"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r := newRelayRig(t, engine)
			r.pass(38)
			s, c := r.catalog()
			days := func(all ...string) (names []string) {
				for name := range r.held {
					if slices.ContainsFunc(all, func(day string) bool { return strings.HasPrefix(name, day) }) {
						names = append(names, name)
					}
				}
				slices.Sort(names)
				return names
			}
			// the first of the year, of April and of the week, and the newest, are built upon: the disk keeps them, too
			want(t, "on the disk", r.dated(r.disk), days("20260303", "20260401", "20260406", "20260408", "20260409")...)
			kept := namesIn(c)
			want(t, "in the store", kept, days("20260303", "20260401", "20260406", "20260407", "20260408", "20260409")...)
			complete := 0
			for _, b := range c.Backups {
				if b.Full() {
					complete++
				}
				if b.Source != c.Backups[0].Source {
					t.Errorf("%s is recorded as of %s, another source than %s", b.Name, b.Source, c.Backups[0].Source)
				}
				private, err := b.Private(seal.Identities{r.identity})
				if btrfstest.Check(t, err); !strings.HasSuffix(private.Via, ":"+r.disk) || private.Path != r.source {
					t.Errorf("%s is one of %s via %s", b.Name, private.Path, private.Via)
				}
			}
			if complete != 1 {
				t.Errorf("%d complete copies were sent", complete)
			}
			r.holds(r.restored(s, c), kept)
			far := r.dated(r.far)
			want(t, "in the folder", far, days("20260303", "20260401", "20260407", "20260408", "20260409")...)
			r.holds(r.far, far)
			expect(t, exitDone, invoke(t, r.environ(), "status", "--config", r.file()), "second", "good")
			btrfstest.Check(t, os.Rename(r.disk, r.disk+".away"))
			expect(t, exitDiffer, invoke(t, r.environ(), "status", "--config", r.file()), r.store[len(r.store)-4:]+"  2026-04-09")
		})
	}
}

func TestBackupsAreSentOnFromAnotherMachine(t *testing.T) {
	t.Parallel()
	r, l := newRelayRig(t, "btrfs"), newLink(t, sshtest.Options{})
	r.configure("[job.first]\nsource = \"SOURCE\"\ndestination = [%q]\n", r.disk)
	r.pass(2)
	far := []string{"--relay", "--recipients", filepath.Join(r.dir, "recipients"), "--one-recipient"}
	cmd := exec.Command("btrfs-backup", slices.Concat(far, l.options, []string{l.place(r.disk), "store:" + r.store})...)
	cmd.Env = append(os.Environ(), r.environ()...)
	expect(t, exitDone, invokeCmd(t, cmd))
	s, c := r.catalog()
	want(t, "in the store", namesIn(c), r.dated(r.disk)...)
	r.holds(r.restored(s, c), r.dated(r.disk))
}

func TestOnlyAFolderWithBackupsOfOneSourceIsSentOn(t *testing.T) {
	t.Parallel()
	r := newRelayRig(t, "btrfs")
	r.pass(1)
	relay := func(source string, options ...string) result {
		t.Helper()
		return invoke(t, r.environ(), slices.Concat(options, []string{"--relay", "--recipients", filepath.Join(r.dir, "recipients"),
			"--one-recipient", source, "store:" + t.TempDir()})...)
	}
	other := newSource(t, filepath.Dir(r.source), "other")
	r.days(1)
	expect(t, exitDone, invoke(t, r.environ(), "--snapshot-prefix", "other-", other, r.disk))
	expect(t, exitDone, relay(r.disk))
	expect(t, exitDone, relay(r.disk, "--snapshot-prefix", "other-"))
	r.days(1)
	expect(t, exitDone, invoke(t, r.environ(), other, r.disk))
	expect(t, exitFailed, relay(r.disk), "holds backups of several sources", r.source, other, "--snapshot-prefix")
	expect(t, exitFailed, relay(filepath.Join(r.source, "snapshot")), "holds no backups that can be sent on", "these are snapshots")
	expect(t, exitFailed, relay(smallFS(t).Dir), "holds no backups that can be sent on", "is its disk mounted?")
	expect(t, exitFailed, relay(t.TempDir()), "not on a btrfs")
	expect(t, exitUsage, relay(r.disk, "--num-snapshots", "3"), "has no effect with --relay")
	expect(t, exitUsage, relay(r.disk, "--recursive"), "is for a single source")
	expect(t, exitUsage, relay(r.disk, "--engine", "rsync"), "which rsync does not")
	want(t, "left in the folder", names(t, filepath.Join(r.source, "snapshot")), r.snapshots()...)
}

func TestARehearsalForAStoreThatIsMissingFollowsTheCalendar(t *testing.T) {
	t.Parallel()
	r := newRelayRig(t, "btrfs")
	r.configure("[job.first]\nsource = \"SOURCE\"\ndestination = [%q]\n", r.disk)
	r.pass(10) // from a Tuesday on
	dated := r.dated(r.disk)
	plan := expect(t, exitDone, invoke(t, r.environ(), "--relay", "--dry-run", "--keep-backups", "14d", "--recipients",
		filepath.Join(r.dir, "recipients"), "--one-recipient", r.disk, "store:"+filepath.Join(r.dir, "new"))).stdout
	for at, parent := range map[int]int{1: 0, 5: 4, 6: 0, 7: 6} { // the seventh is a Monday
		if line := "would send " + dated[at] + " as an increment to " + dated[parent]; !strings.Contains(plan, line) {
			t.Errorf("%q is not in the plan:\n%s", line, plan)
		}
	}
}
