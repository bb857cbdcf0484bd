package serve

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// fuzzRoot is the root's path in all processes of a fuzzer, whose working directory it is.
const fuzzRoot = "/proc/self/cwd"

// fuzzed gives a scene, or without root a plain directory with something beside it.
func fuzzed(f *testing.F) *scene {
	if os.Geteuid() == 0 {
		s := newScene(f)
		newSubvolume(f, s.root, "sub")
		return s
	}
	s := &scene{t: f, top: f.TempDir()}
	s.root, s.other = s.top+"/backup/laptop", s.top+"/backup/laptop2"
	s.folder = s.root + "/home"
	for _, dir := range []string{s.folder + "/" + mine, s.other + "/" + theirs, s.top + "/outside", s.root + "/sub"} {
		btrfstest.Check(f, os.MkdirAll(dir, 0o755))
	}
	btrfstest.Check(f, os.WriteFile(s.top+"/outside/file", []byte("theirs"), 0o644))
	btrfstest.Check(f, os.Symlink(s.top+"/outside", s.root+"/link"))
	btrfstest.Check(f, os.Symlink("../../laptop2", s.folder+"/up"))
	return s
}

// lookAround is look without what a client may add to.
func (s *scene) lookAround() map[string]string {
	seen := s.look()
	for _, free := range []string{s.root, s.folder, s.folder + "/.outstanding_transfers"} {
		delete(seen, free)
	}
	return seen
}

func FuzzServeVerbs(f *testing.F) {
	s := fuzzed(f)
	back, err := os.Getwd()
	btrfstest.Check(f, err)
	btrfstest.Check(f, os.Chdir(s.root))
	f.Cleanup(func() { btrfstest.Check(f, os.Chdir(back)) })
	s.seed(f)
	confine, err := Limits{Root: fuzzRoot}.confinement()
	btrfstest.Check(f, err)
	f.Cleanup(func() { confine.Close() })
	s.outside = s.lookAround()
	f.Fuzz(func(t *testing.T, verb string, args []byte) {
		s.t = t
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		o := Options{Log: slog.New(slog.DiscardHandler), Limits: Limits{Root: fuzzRoot, AppendOnly: true}}
		server := newServer(ctx, o, confine)
		_, _ = server.handle(ctx, verb, args, func(any) { cancel() }) // a stream that nobody takes
		server.disconnect()
		server.transfers.Wait()
		now := s.lookAround()
		for path, was := range s.outside {
			if now[path] != was {
				t.Fatalf("%s was\n%s, is\n%s", path, was, now[path])
			}
		}
		s.tidy()
	})
}

// seed gives the fuzzer a good and a bad call of each verb.
func (s *scene) seed(f *testing.F) {
	add := func(verb string, args any) {
		raw, err := wire.Encode(args)
		btrfstest.Check(f, err)
		f.Add(verb, []byte(raw))
	}
	var id btrfs.UUID
	if os.Geteuid() == 0 {
		id = info(f, s.root, "sub").UUID
	}
	for _, path := range []string{fuzzRoot + "/home", fuzzRoot + "/home/../../laptop2", fuzzRoot + "/link"} {
		for _, name := range []string{mine, "20260201-000000", "../../laptop2/" + theirs} {
			dir := protocol.Dir{Path: path}
			for verb, args := range map[string]any{
				protocol.Format.Name: struct{}{}, protocol.Open.Name: dir, protocol.Mkdir.Name: path + "/x", protocol.List.Name: dir, protocol.Lock.Name: protocol.LockCall{Dir: dir}, protocol.Unlock.Name: uint64(1), protocol.Nested.Name: dir,
				protocol.Changed.Name: protocol.ChangedCall{Dir: dir},
				protocol.Take.Name:    protocol.TakeCall{Dir: dir, Source: fuzzRoot + "/sub", UUID: id, Name: name},
				protocol.Delete.Name:  protocol.DeleteCall{Dir: dir, Names: []string{name, btrfs.Incoming(name)}},
				protocol.Send.Name:    protocol.SendCall{Dir: dir, Order: host.SendOrder{Snapshot: name}},
				protocol.Measure.Name: protocol.SendCall{Dir: dir, Order: host.SendOrder{Snapshot: name, Parent: mine}},
				protocol.Receive.Name: protocol.ReceiveCall{Dir: dir, Order: host.ReceiveOrder{Name: name}},
				protocol.Close.Name:   protocol.StreamName{Address: "@btrfs-backup/x", Secret: "x"},
				protocol.Commit.Name:  protocol.CommitCall{Dir: dir, Name: name}, protocol.Abort.Name: protocol.AbortCall{Dir: dir, Name: name},
				protocol.Ledger.Name: protocol.LedgerCall{Dir: dir, Content: []byte("{}")}, protocol.Link.Name: protocol.LinkCall{Dir: dir, Name: ".latest", Target: name},
			} {
				add(verb, args)
			}
		}
	}
}

// tidy removes what was added.
func (s *scene) tidy() {
	entries, err := os.ReadDir(s.folder)
	btrfstest.Check(s.t, err)
	dir := btrfstest.Open(s.t, s.folder)
	for _, e := range entries {
		if e.Name() != mine && e.Name() != "up" && e.Name() != tree.StateDir {
			if btrfs.Delete(dir, e.Name()) != nil {
				_ = os.RemoveAll(filepath.Join(s.folder, e.Name()))
			}
		}
	}
}
