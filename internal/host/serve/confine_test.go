package serve

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// escapes are paths that a confined client may not name.
func (s *scene) escapes() []string {
	return []string{
		"", ".", "..", "home", "/", "/etc", s.top, s.top + "/outside", s.other, s.root + "2", s.root + "/..", s.root + "/../laptop2",
		s.folder + "/../../laptop2", s.root + "/home/../../laptop2", s.root + "/link", s.root + "/link/", s.root + "/link/x", s.folder + "/up",
		s.folder + "/up/new", s.folder + "/loop/.", s.folder + "/loop/x", s.folder + "/" + mine, s.folder + "/" + mine + "/dir", s.folder + "/" + mine + "/out",
		s.folder + "/.x.incoming", s.folder + "/.x.incoming/dir", s.folder + "/.btrfs-backup", s.folder + "/.btrfs-backup/x", s.folder + "\x00", s.root + "/\x00/x",
		s.root + "/" + strings.Repeat("x", 300), "/proc/self/fd/0", "/proc/self/cwd", "/proc/self/root" + s.root, "//" + s.other,
		s.folder + "/read-only", s.folder + "/read-only/dir",
	}
}

// badNames are names of no backup.
var badNames = []string{"", ".", "..", "/", "/etc", "../laptop2/" + theirs, "../../laptop2/" + theirs, "../../../outside", "../../../source/" + theirs, "a/" + mine, mine + "/", mine + "/dir",
	"../../laptop2/.latest", ".x/../../../laptop2/latest", "./latest", "up", "up/" + theirs, "loop/" + mine, ".x.incoming", ".btrfs-backup", ".outstanding_transfers", "x\x00" + mine, mine + "\x00", strings.Repeat("x", 300), strings.Repeat("x", 290) + mine, strings.Repeat("x", 235) + mine}

// inFolder are all calls with a directory, by what they are told it is.
func (s *scene) inFolder(dir protocol.Dir) map[string]any {
	return map[string]any{
		protocol.Open.Name: dir, protocol.List.Name: dir, protocol.Lock.Name: protocol.LockCall{Dir: dir}, protocol.Nested.Name: dir,
		protocol.Changed.Name:  protocol.ChangedCall{Dir: dir},
		protocol.Take.Name:     protocol.TakeCall{Dir: dir, Source: s.root + "/sub", UUID: info(s.t, s.root, "sub").UUID, Name: "20260201-000000"},
		protocol.Delete.Name:   protocol.DeleteCall{Dir: dir, Names: []string{mine, theirs}},
		protocol.Send.Name:     protocol.SendCall{Dir: dir, Order: host.SendOrder{Snapshot: theirs}},
		protocol.Measure.Name:  protocol.SendCall{Dir: dir, Order: host.SendOrder{Snapshot: theirs}},
		protocol.Receive.Name:  protocol.ReceiveCall{Dir: dir, Order: host.ReceiveOrder{Name: "20260201-000000"}},
		protocol.Commit.Name:   protocol.CommitCall{Dir: dir, Name: "20260201-000000"},
		protocol.Abort.Name:    protocol.AbortCall{Dir: dir, Name: "20260201-000000"},
		protocol.Ledger.Name:   protocol.LedgerCall{Dir: dir, Content: []byte("{}")},
		protocol.Link.Name:     protocol.LinkCall{Dir: dir, Name: ".latest", Target: mine},
		protocol.ListSets.Name: dir, protocol.MakeSet.Name: protocol.MakeSetCall{Dir: dir, Name: mine, Members: []string{"home"}},
		protocol.RemoveSets.Name:    protocol.RemoveSetsCall{Dir: dir, Names: []string{mine}},
		protocol.ListObjects.Name:   protocol.ListObjectsCall{Dir: dir},
		protocol.StatObject.Name:    protocol.ObjectCall{Dir: dir, Key: "file"},
		protocol.ReadObject.Name:    protocol.ReadObjectCall{ObjectCall: protocol.ObjectCall{Dir: dir, Key: "file"}, Length: 10},
		protocol.PutObject.Name:     protocol.PutObjectCall{ObjectCall: protocol.ObjectCall{Dir: dir, Key: "format"}},
		protocol.DeleteObjects.Name: protocol.DeleteObjectsCall{Dir: dir, Keys: []string{"file"}},
	}
}

// withName are all calls with a name in a directory.
func (s *scene) withName(dir protocol.Dir, name string) map[string]any {
	return map[string]any{
		protocol.Take.Name:             protocol.TakeCall{Dir: dir, Source: s.root + "/sub", UUID: info(s.t, s.root, "sub").UUID, Name: name},
		protocol.Delete.Name:           protocol.DeleteCall{Dir: dir, Names: []string{name}, Options: host.DeleteOptions{Wait: true}},
		protocol.Delete.Name + " rw":   protocol.DeleteCall{Dir: dir, Names: []string{name}, Options: host.DeleteOptions{ConvertRW: true}},
		protocol.Send.Name:             protocol.SendCall{Dir: dir, Order: host.SendOrder{Snapshot: name}},
		protocol.Send.Name + " from":   protocol.SendCall{Dir: dir, Order: host.SendOrder{Snapshot: mine, Parent: name}},
		protocol.Measure.Name:          protocol.SendCall{Dir: dir, Order: host.SendOrder{Snapshot: name}},
		protocol.Measure.Name + " on":  protocol.SendCall{Dir: dir, Order: host.SendOrder{Snapshot: mine, Parent: name}},
		protocol.Receive.Name:          protocol.ReceiveCall{Dir: dir, Order: host.ReceiveOrder{Name: name}},
		protocol.Commit.Name:           protocol.CommitCall{Dir: dir, Name: name},
		protocol.Commit.Name + " mine": protocol.CommitCall{Dir: dir, Name: name, UUID: info(s.t, s.folder, mine).UUID},
		protocol.Commit.Name + " dir":  protocol.CommitCall{Dir: dir, Name: name, UUID: info(s.t, s.folder).UUID},
		protocol.Abort.Name:            protocol.AbortCall{Dir: dir, Name: name},
		protocol.Link.Name:             protocol.LinkCall{Dir: dir, Name: name, Target: mine},
		protocol.Link.Name + " to":     protocol.LinkCall{Dir: dir, Name: ".latest", Target: name},
		protocol.MakeSet.Name:          protocol.MakeSetCall{Dir: dir, Name: name},
		protocol.MakeSet.Name + " of":  protocol.MakeSetCall{Dir: dir, Name: "20260201-000000", Members: []string{name}},
		protocol.RemoveSets.Name:       protocol.RemoveSetsCall{Dir: dir, Names: []string{name}},
	}
}

// ask makes a call and gives its error, that of a deletion included.
func (c *client) ask(call string, args any) error {
	verb, _, _ := strings.Cut(call, " ")
	if verb == protocol.Delete.Name || verb == protocol.RemoveSets.Name {
		var reply protocol.DeleteReply
		if err := c.call(verb, args, &reply); err != nil {
			return err
		}
		if reply.Failure == nil {
			return nil
		}
		return protocol.FromWire(reply.Failure)
	}
	return c.call(verb, args, nil)
}

// newClientScene is a scene with a subvolume in the client's root, and with traps in its folder.
func newClientScene(t *testing.T) *scene {
	s := newScene(t)
	newSubvolume(t, s.root, "sub")
	readOnly := newSubvolume(t, s.folder, "read-only")
	btrfstest.Check(t, os.Mkdir(readOnly+"/dir", 0o755))
	btrfstest.Check(t, btrfs.SetReadOnly(btrfstest.Open(t, s.folder), "read-only", true))
	s.outside = s.look()
	return s
}

func TestNoPathLeadsOutOfTheRoot(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, s.limits())
	for _, path := range s.escapes() {
		calls := s.inFolder(protocol.Dir{Path: path})
		calls[protocol.Mkdir.Name] = path
		calls[protocol.Take.Name+" of"] = protocol.TakeCall{Dir: protocol.Dir{Path: s.folder}, Source: path, UUID: info(t, s.top, "home").UUID, Name: "20260202-000000"}
		for call, args := range calls {
			if call == protocol.Mkdir.Name && strings.Contains(path, "read-only") && c.ask(call, args) == nil {
				continue // it is there
			}
			if err := c.ask(call, args); err == nil {
				t.Errorf("%s in %q is allowed", call, path)
			}
		}
	}
	s.mustStand()
	s.mustServe(c)
}

func TestASourceOutsideOfTheRootIsNotTaken(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, s.limits())
	for _, source := range []string{s.top + "/home", s.root + "/../../home", s.other + "/" + theirs, s.root + "/home-link"} {
		if source == s.root+"/home-link" {
			btrfstest.Check(t, os.Symlink(s.top+"/home", source))
		}
		call := protocol.TakeCall{Dir: protocol.Dir{Path: s.folder}, Source: source, UUID: info(t, source).UUID, Name: "20260202-000000"}
		if err := c.ask(protocol.Take.Name, call); err == nil {
			t.Errorf("%s is taken", source)
		}
	}
	if _, err := os.Lstat(s.folder + "/20260202-000000"); err == nil {
		t.Error("there is a snapshot")
	}
}

func TestNoNameLeadsOutOfTheFolder(t *testing.T) {
	s := newClientScene(t)
	for _, o := range []Options{s.limits(), {Limits: Limits{Root: s.root}}} {
		c := connect(t, o)
		for _, name := range badNames {
			for call, args := range s.withName(protocol.Dir{Path: s.folder}, name) {
				if call == protocol.Send.Name+" from" || call == protocol.Measure.Name+" on" {
					if name == "" {
						continue // no parent
					}
				}
				if err := c.ask(call, args); err == nil {
					t.Errorf("%s with %q is allowed", call, name)
				}
			}
		}
		s.mustStand()
		s.mustServe(c)
	}
}

func TestAnAppendOnlyClientLosesAndReplacesNoBackup(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, s.limits())
	dir := protocol.Dir{Path: s.folder}
	calls := s.withName(dir, mine)
	for _, allowed := range []string{protocol.Send.Name, protocol.Measure.Name, protocol.Send.Name + " from", protocol.Measure.Name + " on", protocol.Link.Name + " to", protocol.Abort.Name, protocol.Commit.Name + " mine"} {
		if allowed == protocol.Abort.Name || allowed == protocol.Commit.Name+" mine" { // of what is not under way; once more
			if err := c.ask(allowed, calls[allowed]); err != nil {
				t.Errorf("%s: %v", allowed, err)
			}
		}
		delete(calls, allowed)
	}
	for call, args := range calls {
		if err := c.ask(call, args); err == nil {
			t.Errorf("%s is allowed", call)
		}
	}
	s.mustStand()
	stream := s.stream(mine, "")
	if err := c.backUp(s.folder, "20260303-000000", stream, btrfs.UUID{7}); err == nil || !strings.Contains(err.Error(), "same snapshot") {
		t.Errorf("a second copy, whose origin would be the first one's: %v", err)
	}
	if err := c.backUp(s.folder, mine, stream, btrfs.UUID{7}); err == nil {
		t.Error("a backup is replaced")
	}
	s.mustStand()
	s.mustServe(c)
}

// Who could tell that it is his could have it pruned.
func TestNoClientTakesABackupThatWasThereForHisOwn(t *testing.T) {
	s := newClientScene(t)
	record := filepath.Join(s.folder, host.OriginsFile)
	btrfstest.Check(t, os.Remove(record))
	o := s.limits()
	o.AgainTime = time.Nanosecond
	call := protocol.CommitCall{Dir: protocol.Dir{Path: s.folder}, Name: mine, UUID: info(t, s.folder, mine).UUID, Origin: host.Origin{Subvolume: btrfs.UUID{7}}}
	if err := connect(t, o).ask(protocol.Commit.Name, call); err == nil || !strings.Contains(err.Error(), "was there before") {
		t.Errorf("it is his: %v", err)
	}
	if _, err := os.Stat(record); err == nil {
		t.Error("it is on record as his")
	}
	o.AgainTime = 0 // when the first reply was lost
	btrfstest.Check(t, connect(t, o).ask(protocol.Commit.Name, call))
}

func TestAHiddenNameWithoutACompleteBackupIsNotCommitted(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, s.limits())
	dir, name := protocol.Dir{Path: s.folder}, "20260303-000000"
	hidden := newSubvolume(t, s.folder, btrfs.Incoming(name))
	uuid := info(t, hidden).UUID
	wantNot := func(what string, uuid btrfs.UUID) {
		t.Helper()
		if err := c.ask(protocol.Commit.Name, protocol.CommitCall{Dir: dir, Name: name, UUID: uuid}); err == nil {
			t.Errorf("%s is a backup", what)
		}
	}
	wantNot("a writable subvolume", uuid)
	btrfstest.Check(t, btrfs.SetReadOnly(btrfstest.Open(t, s.folder), btrfs.Incoming(name), true))
	wantNot("what was not received", uuid)
	wantNot("another one", btrfs.UUID{1})
	if err := c.ask(protocol.Delete.Name, protocol.DeleteCall{Dir: dir, Names: []string{btrfs.Incoming(name)}, Options: host.DeleteOptions{ConvertRW: true}}); err == nil {
		t.Error("it is made writable")
	}
	if err := c.ask(protocol.Delete.Name, protocol.DeleteCall{Dir: dir, Names: []string{btrfs.Incoming(name)}}); err != nil {
		t.Errorf("a leftover stays: %v", err)
	}
	s.mustStand()
	s.mustServe(c)
}

func TestOnlyTheCompleteBackupThatWasReceivedIsCommitted(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, s.limits())
	dir, name := protocol.Dir{Path: s.folder}, "20260303-000000"
	s.snapshot(name)
	r, sender, err := c.push(dir, name, s.stream(name, ""))
	btrfstest.Check(t, err)
	btrfstest.Check(t, sender.Close())
	var sub btrfs.Subvolume
	btrfstest.Check(t, c.call(protocol.Close.Name, r.Stream, &sub))
	commit := protocol.CommitCall{Dir: dir, Name: name, UUID: s.first.UUID, Stream: r.Stream}
	if err := c.ask(protocol.Commit.Name, commit); err == nil {
		t.Error("another one is committed")
	}
	commit.UUID = sub.UUID
	folder := btrfstest.Open(t, s.folder)
	btrfstest.Check(t, btrfs.SetReadOnly(folder, btrfs.Incoming(name), false))
	if err := c.ask(protocol.Commit.Name, commit); err == nil {
		t.Error("a writable one is committed")
	}
	btrfstest.Check(t, btrfs.SetReadOnly(folder, btrfs.Incoming(name), true))
	if err := c.ask(protocol.Commit.Name, commit); err != nil && info(t, s.folder, btrfs.Incoming(name)).ReceivedUUID == sub.ReceivedUUID {
		t.Errorf("the right one: %v", err)
	}
	plain := "20260701-000000"
	btrfstest.Check(t, os.Mkdir(s.folder+"/"+plain, 0o755))
	if err := c.ask(protocol.Commit.Name, protocol.CommitCall{Dir: dir, Name: plain, UUID: info(t, s.folder).UUID}); err == nil {
		t.Error("a plain directory is a backup")
	}
}

func TestAConfinedClientDeletesBackupsOnly(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, Options{Limits: Limits{Root: s.root}})
	dir := protocol.Dir{Path: s.folder}
	if err := c.ask(protocol.Delete.Name, protocol.DeleteCall{Dir: dir, Names: []string{"read-only"}}); err == nil {
		t.Error("what is no backup is deleted")
	}
	s.mustStand()
	if err := c.ask(protocol.Delete.Name, protocol.DeleteCall{Dir: dir, Names: []string{mine}}); err != nil {
		t.Errorf("a backup is not deleted: %v", err)
	}
}

func TestAConfinedClientSeesOnlyWhatIsWithinTheRoot(t *testing.T) {
	s := newClientScene(t)
	btrfstest.Run(t, "btrfs", "quota", "enable", s.top)
	c := connect(t, s.limits())
	var reply protocol.ListReply
	btrfstest.Check(t, c.call(protocol.List.Name, protocol.Dir{Path: s.folder}, &reply))
	listing, err := reply.Listing.Unpack()
	btrfstest.Check(t, err)
	var names []string
	for _, sub := range listing.All {
		names = append(names, sub.Name)
	}
	slices.Sort(names)
	if want := []string{mine, "read-only", "sub"}; !slices.Equal(names, want) || len(listing.InDirectory) != 2 {
		t.Errorf("%q, %d of them in the folder, want %q", names, len(listing.InDirectory), want)
	}
	for id := range reply.Content.Sizes {
		if !slices.ContainsFunc(listing.All, func(s btrfs.Subvolume) bool { return s.ID == id }) {
			t.Errorf("the size of subvolume %d is told", id)
		}
	}
	if len(reply.Content.Sizes) == 0 {
		t.Error("no size is told")
	}
}

func TestHostileStreamsLeaveNothingBehind(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, s.limits())
	disk := s.newDisk()
	for name, stream := range s.hostile() {
		if err := c.backUp(s.folder, "20260404-000000", stream, btrfs.UUID{1}); err == nil {
			t.Errorf("%s is accepted", name)
		}
		s.mustStand()
		if s.disk() != disk {
			t.Fatalf("%s wrote to the disk", name)
		}
		if t.Failed() {
			t.Fatalf("after %s", name)
		}
	}
	s.mustServe(c)
}

// TestTrapsCatchNobodyWithoutLimits is about machines that take streams from each other.
func TestTrapsCatchNobodyWithoutLimits(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, Options{})
	disk := s.newDisk()
	for name, stream := range s.traps() {
		if err := c.backUp(s.folder, "20260404-000000", stream, btrfs.UUID{1}); err == nil {
			t.Errorf("%s is accepted", name)
		}
		s.mustStand()
		if s.disk() != disk || t.Failed() {
			t.Fatalf("after %s", name)
		}
	}
}

func (s *scene) newDisk() string {
	s.device()
	return s.disk()
}

// hostile are streams that must not be received by a confined agent.
func (s *scene) hostile() map[string][]byte {
	streams := s.traps()
	first := func(rest ...[]byte) []byte {
		return streamtest.Stream(1, append([][]byte{streamtest.Subvol()}, rest...)...)
	}
	for c := sendstream.CmdMkfile; c <= sendstream.CmdEncodedWrite; c++ {
		for _, a := range streamtest.PathAttributes {
			if c == sendstream.CmdEnd || c == sendstream.CmdSymlink && a == sendstream.AttrPathLink {
				continue
			}
			streams[fmt.Sprintf("%v, attribute %d", c, a)] = first(streamtest.Makes(sendstream.CmdMkfile, "f"), streamtest.Encode(c, streamtest.Text(a, "../"+mine+"/file")))
		}
	}
	maps.Copy(streams, map[string][]byte{
		"a file beside":              first(streamtest.Makes(sendstream.CmdMkfile, "../x")),
		"removing the subvolume":     first(streamtest.Encode(sendstream.CmdRmdir, streamtest.Text(sendstream.AttrPath, ""))),
		"a second subvolume":         first(streamtest.Encode(sendstream.CmdSubvol, streamtest.Text(sendstream.AttrPath, "20200101-000000"), streamtest.UUID(sendstream.AttrUUID, streamtest.OwnUUID), streamtest.Number(sendstream.AttrCtransid, 7))),
		"a second name":              streamtest.Stream(1, streamtest.Encode(sendstream.CmdSubvol, streamtest.Text(sendstream.AttrPath, "x"), streamtest.Text(sendstream.AttrPath, "20200101-000000"), streamtest.UUID(sendstream.AttrUUID, streamtest.OwnUUID), streamtest.Number(sendstream.AttrCtransid, 7))),
		"another's data":             first(streamtest.Makes(sendstream.CmdMkfile, "mine"), streamtest.CloneFrom(s.stolen.UUID, "file")),
		"data of one that is here":   first(streamtest.Makes(sendstream.CmdMkfile, "mine"), streamtest.CloneFrom(s.first.UUID, "file")),
		"another's backup as parent": streamtest.Stream(1, streamtest.SnapshotOf(s.stolen.UUID)),
		"the original as parent":     streamtest.Stream(1, streamtest.SnapshotOf(info(s.t, s.top, "home").UUID)),
		"no parent":                  streamtest.Stream(1, streamtest.SnapshotOf(btrfs.UUID{})),
		"the top level as parent":    streamtest.Stream(1, streamtest.SnapshotOf(info(s.t, s.top).UUID)),
		"no end":                     first()[:len(first())-10],
		"more behind the end":        append(first(), "more"...),
		"no stream":                  []byte("hello"),
		"nothing":                    {},
	})
	return streams
}

func TestOfAParentThatIsAlsoElsewhereOnlyTheOwnCopyIsBuiltOn(t *testing.T) {
	s := newClientScene(t)
	hidden := s.snapshot("20260105-000000")
	whole := s.stream("20260105-000000", "")
	everywhere := connect(t, Options{})
	btrfstest.Check(t, everywhere.backUp(s.other, "20260105-000000", whole, btrfs.UUID{2}))
	c := connect(t, s.limits())
	// a fake with the UUID of what is to be stolen: a receiver that looks everywhere would find the other one by it
	fake := streamtest.Stream(1, streamtest.Encode(sendstream.CmdSubvol, streamtest.Text(sendstream.AttrPath, "x"), streamtest.UUID(sendstream.AttrUUID, hidden.UUID), streamtest.Number(sendstream.AttrCtransid, 7)))
	btrfstest.Check(t, c.backUp(s.folder, "20260105-000000", fake, btrfs.UUID{1}))
	steal := streamtest.Stream(1, streamtest.SnapshotOf(hidden.UUID), streamtest.Makes(sendstream.CmdMkfile, "mine"), streamtest.CloneFrom(hidden.UUID, "file"))
	if err := c.backUp(s.folder, "20260107-000000", steal, btrfs.UUID{1}); err == nil || !strings.Contains(err.Error(), "no such file") {
		content, _ := os.ReadFile(s.folder + "/20260107-000000/mine")
		t.Errorf("%d bytes of another client's backup are stolen: %v", len(content), err)
	}
	btrfstest.Check(t, c.backUp(s.folder, "20260106-000000", streamtest.Stream(1, streamtest.SnapshotOf(hidden.UUID)), btrfs.UUID{1}))
	if got := info(s.t, s.folder, "20260106-000000").ParentUUID; got != info(s.t, s.folder, "20260105-000000").UUID {
		t.Errorf("it is built on %s", got)
	}
}

func TestARootThatWasReplacedIsNoRoot(t *testing.T) {
	for _, replace := range []func(s *scene) error{
		func(*scene) error { return nil },
		func(s *scene) error { return os.Mkdir(s.root, 0o755) },
		func(s *scene) error { return os.Symlink(s.other, s.root) },
	} {
		s := newClientScene(t)
		c := connect(t, s.limits())
		btrfstest.Check(t, c.ask(protocol.Open.Name, protocol.Dir{Path: s.root}))
		btrfstest.Check(t, os.Rename(s.root, s.root+"-moved"))
		btrfstest.Check(t, replace(s))
		for call, args := range map[string]any{protocol.Open.Name: protocol.Dir{Path: s.folder}, protocol.Mkdir.Name: s.folder, protocol.List.Name: protocol.Dir{Path: s.root},
			protocol.Receive.Name: protocol.ReceiveCall{Dir: protocol.Dir{Path: s.root}, Order: host.ReceiveOrder{Name: mine}}} {
			if err := c.ask(call, args); err == nil {
				t.Errorf("%s is allowed", call)
			}
		}
		c.end()
	}
}

func TestFoldersAreMadeWithinTheRoot(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, s.limits())
	for _, path := range []string{s.root, s.folder, s.root + "/a/b/c", s.root + "/a/b/c", s.root + "/a/../d/", s.root + "//e"} {
		if err := c.ask(protocol.Mkdir.Name, path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if info, err := os.Lstat(filepath.Clean(path)); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", path, err)
		}
		if err := c.ask(protocol.Open.Name, protocol.Dir{Path: path}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestARoleIsAllAClientHas(t *testing.T) {
	s := newClientScene(t)
	for _, limits := range []Limits{{Root: s.root, ReceiveOnly: true}, {Root: s.root, SendOnly: true}} {
		c := connect(t, Options{Limits: limits})
		calls := s.inFolder(protocol.Dir{Path: s.folder})
		calls[protocol.Mkdir.Name] = s.root + "/new"
		calls[protocol.Close.Name] = protocol.StreamName{}
		for call, args := range calls {
			role := handlers[call].Role
			if role == protocol.Any || limits.allow(role) == nil {
				continue
			}
			if err := c.ask(call, args); err == nil || !strings.Contains(err.Error(), "refused: this key may only") {
				t.Errorf("%+v: %s: %v", limits, call, err)
			}
		}
	}
	s.mustStand()
}

func TestLinksAndSnapshotsOfAConfinedClient(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, s.limits())
	dir := protocol.Dir{Path: s.folder}
	sub := info(t, s.root, "sub")
	for call, args := range map[string]any{
		protocol.Take.Name:   protocol.TakeCall{Dir: dir, Source: s.root + "/sub", UUID: sub.UUID, Name: "sub_20260601-000000"},
		protocol.Link.Name:   protocol.LinkCall{Dir: dir, Name: ".sub_latest", Target: "sub_20260601-000000"},
		protocol.Ledger.Name: protocol.LedgerCall{Dir: dir, Content: []byte("{}")},
	} {
		if err := c.ask(call, args); err != nil {
			t.Errorf("%s: %v", call, err)
		}
	}
	if to, err := os.Readlink(s.folder + "/.sub_latest"); err != nil || to != "sub_20260601-000000" {
		t.Errorf("%s, %v", to, err)
	}
	var n int64
	btrfstest.Check(t, c.call(protocol.Measure.Name, protocol.SendCall{Dir: dir, Order: host.SendOrder{Snapshot: "sub_20260601-000000"}}, &n))
	var stream bytes.Buffer
	btrfstest.Check(t, c.pull(protocol.SendCall{Dir: dir, Order: host.SendOrder{Snapshot: "sub_20260601-000000"}}, &stream))
	if _, err := sendstream.Copy(io.Discard, bytes.NewReader(stream.Bytes())); err != nil || n != int64(stream.Len()) {
		t.Errorf("%d bytes, measured %d: %v", stream.Len(), n, err)
	}
}

// pull lets the agent send a stream.
func (c *client) pull(call protocol.SendCall, into *bytes.Buffer) error {
	in := wire.NewReceiver(wire.ReceiverOptions{})
	written := make(chan error, 1)
	go func() {
		_, err := in.WriteTo(into)
		written <- err
	}()
	err := protocol.FromWire(c.conn.Call(c.t.Context(), protocol.Send.Name, call, nil, func(n wire.Raw) {
		var name protocol.StreamName
		if n.Decode(&name) == nil {
			go func() {
				session, err := c.join(name)
				if err != nil {
					in.Abort(err)
					return
				}
				in.Add(session)
			}()
		}
	}))
	if err != nil {
		in.Abort(err)
	}
	writeErr := <-written
	return cmp.Or(err, writeErr)
}

// asUser runs do on a thread of another user.
