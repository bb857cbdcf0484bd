package job

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/retention"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
)

// localSpec gives a job of this machine, with settings as if none were given.
func localSpec() Spec {
	s := Default()
	s.Source, s.Destinations = Local{"/home"}, []Place{Local{"/mnt/usb/home"}}
	return s
}

// wantComplaints fails the test unless there are just these complaints, each with a hint; they are told by parts of their texts.
func wantComplaints(t *testing.T, got Complaints, texts ...string) {
	t.Helper()
	same := slices.EqualFunc(got, texts, func(c hint.Complaint, text string) bool { return strings.Contains(c.Error(), text) })
	if !same || slices.ContainsFunc(got, func(c hint.Complaint) bool { return hint.Of(c) == "" }) {
		t.Errorf("complaints: %q, want %q", got, texts)
	}
}

func TestNothingIsSaidAgainstAJobWithoutSettings(t *testing.T) {
	s := localSpec()
	wantComplaints(t, s.Check())
	for _, engine := range []Engine{Btrfs, Rsync} {
		s.Engine = engine
		wantComplaints(t, s.Check())
		wantComplaints(t, s.checkFor(engine))
	}
	wantComplaints(t, (&Reach{}).Check())
}

func TestAllComplaintsAreToldAtOnce(t *testing.T) {
	s := localSpec()
	s.Engine, s.Prefix, s.Source = "tar", "sub/dir", Command{"cat"}
	s.KeepSnapshots.Last, s.KeepBackups.Last = -1, -2
	s.Copy = Copy{MaxDelete: 101, Marker: "/valid", Options: "'", Tunnel: "me:secret@nas", Filters: []Filter{{"omit", "*.o"}}}
	s.Reach = Reach{Channels: 65, Compress: "lzo"}
	c := s.Check()
	wantComplaints(t, c, "--engine tar is unknown", "--num-snapshots -1 is no number", "--num-backups -2 is no number", `--snapshot-prefix "sub/dir" cannot begin`, "shell://cat: a command cannot be a source",
		"--max-delete 101 is not a percentage", "--marker /valid is absolute", "omit *.o: there is no such filter", "--rsync-options \"'\":",
		"--tunnel me:secret@nas: a password cannot be given there", "--compress lzo is unknown", "--channels 65 is out of range")
	if lines := strings.Count(c.Err().Error(), "\n") + 1; lines != len(c) {
		t.Errorf("%d lines for %d complaints", lines, len(c))
	}
}

func TestPrefixesAreWhatBeginsAFileName(t *testing.T) {
	for prefix, good := range map[string]bool{
		"": true, "home-": true, "höme ": true, strings.Repeat("x", 230): true,
		"a/": false, "a\x00": false, "a\xff": false, strings.Repeat("x", 231): false,
	} {
		s := localSpec()
		s.Prefix = prefix
		if c := s.Check(); (len(c) == 0) != good {
			t.Errorf("%q: %v", prefix, c)
		}
	}
}

func TestTheSchemeAndTheRuleOfAnotherProgramAreChecked(t *testing.T) {
	for i, c := range []struct {
		change func(*Spec)
		want   []string
	}{
		{func(s *Spec) { s.Scheme, s.Prefix, s.Compat = "btrbk-short", "home", retention.Btrbk }, nil},
		{func(s *Spec) { s.Scheme = "btrbk" }, []string{"--name btrbk is unknown"}},
		{func(s *Spec) { s.Scheme = "btrbk-long" }, []string{"--name needs the name of the subvolume"}},
		{func(s *Spec) { s.Scheme, s.Prefix = "btrbk-long", strings.Repeat("x", 215) }, []string{"--snapshot-prefix"}},
		{func(s *Spec) { s.Compat = "snapper" }, []string{"--compat snapper is unknown"}},
		{func(s *Spec) {
			s.Compat, s.KeepSnapshots.Of[retention.Quarter] = retention.Btrbk, 4
			s.To = map[string]To{"x": {KeepBackups: s.KeepSnapshots}}
		}, []string{"--keep-snapshots 4q: btrbk's rule knows no quarters", "--keep-backups 4q: btrbk's rule"}},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := localSpec()
			c.change(&s)
			wantComplaints(t, s.Check(), c.want...)
		})
	}
}

// What an engine has no use for is refused as soon as it is known which engine it is.
func TestSettingsOfTheOtherEngineAreRefused(t *testing.T) {
	yes := true
	daemon, far := Daemon{"rsync://nas/photos"}, Machine{ssh.Target{Host: "nas"}, "/backup"}
	for i, test := range []struct {
		change   func(*Spec)
		byBtrfs  []string
		byRsync  []string
		isKnown  bool // before the source is looked at
		ofEngine Engine
	}{
		{change: func(s *Spec) { s.Copy.Filters = []Filter{{"skip", "*.o"}} }, byBtrfs: []string{"--skip is for copies by rsync"}},
		{change: func(s *Spec) { s.Copy.MaxDelete = 0 }, byBtrfs: []string{"--max-delete is for"}},
		{change: func(s *Spec) { s.Copy.Dedup = &yes }, byBtrfs: []string{"--dedup is for"}},
		{change: func(s *Spec) { s.Copy.MultiFS, s.Copy.Marker = true, "valid" }, byBtrfs: []string{"--multi-fs is for", "--marker is for"}},
		{change: func(s *Spec) { s.NewDestination = true }},
		{change: func(s *Spec) { s.Copy.Tunnel = "nas" }, byBtrfs: []string{"--tunnel is for"}, byRsync: []string{"--tunnel is for an rsync daemon, but neither"}},
		{change: func(s *Spec) { s.Destinations = append(s.Destinations, daemon) }, byBtrfs: []string{"rsync://nas/photos: an rsync daemon"}},
		{change: func(s *Spec) { s.Source = daemon }, byBtrfs: []string{"rsync://nas/photos: an rsync daemon"}, isKnown: true, ofEngine: Rsync},
		{change: func(s *Spec) { s.Subvolume.SkipChecks = true }, isKnown: true, ofEngine: Btrfs},
		{change: func(s *Spec) { s.Subvolume.NoSnapshot = true }, byRsync: []string{"--no-snapshot is about snapshots"}},
		{change: func(s *Spec) { s.Subvolume.LockedDests = true }, byRsync: []string{"--locked-dests is about"}},
		{change: func(s *Spec) { s.Destinations = nil }, byRsync: []string{"DEST is missing: /home is copied by rsync"}},
		{change: func(s *Spec) { s.Destinations = []Place{far, Command{"cat"}} }, byRsync: []string{"shell://cat: a command takes send streams"}},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := localSpec()
			test.change(&s)
			wantComplaints(t, s.checkFor(Btrfs), test.byBtrfs...)
			wantComplaints(t, s.checkFor(Rsync), test.byRsync...)
			if e, known := s.engine(); known != test.isKnown || e != test.ofEngine {
				t.Errorf("engine %q is known: %t", e, known)
			}
			s.Engine = Btrfs
			wantComplaints(t, s.Check(), test.byBtrfs...)
			s.Engine = Rsync
			wantComplaints(t, s.Check(), test.byRsync...)
		})
	}
}

func TestFoldersAreDirectoriesOfMachines(t *testing.T) {
	places, c := ParseFolders([]string{"/home", "nas:/home", "shell://cat", "nas::photos", "nas:home"})
	wantComplaints(t, c, "nas:home: the path of another machine", "shell://cat: the store of a command", "rsync://nas/photos: the backups of")
	if places[0] != (Local{"/home"}) || places[1] != (Machine{ssh.Target{Host: "nas"}, "/home"}) {
		t.Errorf("places: %v", places)
	}
}
