package serve

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
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
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"

	"golang.org/x/sys/unix"
)

// A client speaks the protocol to an agent, as it likes.
type client struct {
	t    testing.TB
	o    Options
	conn *wire.Conn
	end  func() // of the connection; returns when the agent ended
}

// connect starts an agent and greets it.
func connect(t testing.TB, o Options) *client {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ResumeWindow == 0 {
		o.ResumeWindow = 3 * time.Second
	}
	met, served, err := greetServe(t, o, protocol.Greeting{})
	btrfstest.Check(t, err)
	c := &client{t: t, o: o, conn: met.Conn()}
	c.end = func() {
		c.conn.Close()
		<-served
	}
	t.Cleanup(c.end)
	return c
}

// greetServe starts an agent on two pipes. The channel is closed when it ended.
func greetServe(t testing.TB, o Options, g protocol.Greeting) (*wire.Greeting, chan error, error) {
	t.Helper()
	stdin, out, err := os.Pipe()
	btrfstest.Check(t, err)
	in, stdout, err := os.Pipe()
	btrfstest.Check(t, err)
	served := make(chan error, 1)
	go func() {
		served <- Run(context.WithoutCancel(t.Context()), stdin, stdout, o)
		stdin.Close()
		stdout.Close()
		close(served)
	}()
	part, err := wire.Encode(g)
	btrfstest.Check(t, err)
	met, err := wire.Dial(t.Context(), pipes{in, out}, wire.Hello{Part: part}, wire.Options{})
	return met, served, err
}

// pipes are the two directions of a stream.
type pipes struct{ in, out *os.File }

func (p pipes) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p pipes) Write(b []byte) (int, error) { return p.out.Write(b) }
func (p pipes) Close() error                { return errors.Join(p.in.Close(), p.out.Close()) }

func (c *client) call(verb string, args, reply any) error {
	return protocol.FromWire(c.conn.Call(c.t.Context(), verb, args, reply, nil))
}

// join opens one more session, which is to carry a stream.
func (c *client) join(name protocol.StreamName) (io.ReadWriteCloser, error) {
	met, served, err := greetServe(c.t, c.o, protocol.Greeting{Join: name})
	if err != nil {
		return nil, err
	}
	session := met.Stream()
	var sign [1]byte
	if _, err := io.ReadFull(session, sign[:]); err != nil {
		session.Close()
		return nil, cmp.Or(<-served, err)
	}
	return session, nil
}

// push begins to receive and sends as much of a stream as is given. The stream is not ended.
func (c *client) push(dir protocol.Dir, name string, stream []byte) (protocol.ReceiveReply, *wire.Sender, error) {
	var r protocol.ReceiveReply
	if err := c.call(protocol.Receive.Name, protocol.ReceiveCall{Dir: dir, Order: host.ReceiveOrder{Name: name, Key: "key"}}, &r); err != nil {
		return r, nil, err
	}
	session, err := c.join(r.Stream)
	if err != nil {
		return r, nil, err
	}
	sender := wire.NewSender(wire.SenderOptions{Offset: r.Taken.Bytes})
	sender.Add(session)
	_, err = sender.Write(stream[r.Taken.Bytes:])
	return r, sender, err
}

// backUp sends a stream and makes a backup of it. On failure, it aborts.
func (c *client) backUp(folder, name string, stream []byte, origin btrfs.UUID) error {
	dir := protocol.Dir{Path: folder}
	r, sender, err := c.push(dir, name, stream)
	if sender == nil {
		return err
	}
	if sendErr := cmp.Or(err, sender.Close()); sendErr != nil && !errors.Is(sendErr, wire.ErrRefused) {
		return sendErr
	}
	var sub btrfs.Subvolume
	err = c.call(protocol.Close.Name, r.Stream, &sub)
	if err == nil {
		err = c.call(protocol.Commit.Name, protocol.CommitCall{Dir: dir, Name: name, UUID: sub.UUID, Origin: host.Origin{Subvolume: origin}, Stream: r.Stream}, nil)
	}
	if err != nil {
		err = errors.Join(err, c.call(protocol.Abort.Name, protocol.AbortCall{Dir: dir, Name: name, Stream: r.Stream}, nil))
	}
	return err
}

// scene is a filesystem with a confined client's folder and much that is none of his business.
type scene struct {
	t              testing.TB
	top            string
	root, folder   string // of the client
	other          string // another client's folder
	source         *local.Dir
	first, stolen  btrfs.Subvolume // the snapshots whose backups are the client's and the other's
	increments     int
	outside        map[string]string
	loop, loopFile string
}

const (
	mine   = "20260101-000000"
	theirs = "20260102-000000"
)

func newScene(t testing.TB) *scene {
	t.Helper()
	s := &scene{t: t, top: btrfstest.New(t, size).Dir}
	s.root, s.other = s.top+"/backup/laptop", s.top+"/backup/laptop2"
	s.folder = s.root + "/home"
	for _, dir := range []string{s.folder, s.other, s.top + "/outside", s.top + "/source"} {
		btrfstest.Check(t, os.MkdirAll(dir, 0o755))
	}
	btrfstest.Check(t, os.WriteFile(s.top+"/outside/file", []byte("theirs"), 0o644))
	btrfstest.Check(t, os.Symlink(s.top+"/outside", s.root+"/link"))
	btrfstest.Check(t, os.Symlink("../../laptop2", s.folder+"/up"))
	btrfstest.Check(t, os.Symlink(".", s.folder+"/loop"))
	home := newSubvolume(t, s.top, "home")
	btrfstest.Check(t, os.WriteFile(home+"/file", bytes.Repeat([]byte("secret"), 10_000), 0o600))
	btrfstest.Check(t, os.Symlink(s.top+"/outside", home+"/out"))
	btrfstest.Check(t, os.Mkdir(home+"/dir", 0o755))
	s.source = open(t, newHost(), s.top, "source")
	s.first, s.stolen = s.snapshot(mine), s.snapshot(theirs)
	c := connect(t, Options{})
	btrfstest.Check(t, c.backUp(s.folder, mine, s.stream(mine, ""), btrfs.UUID{1}))
	btrfstest.Check(t, c.backUp(s.other, theirs, s.stream(theirs, ""), btrfs.UUID{2}))
	c.end()
	btrfstest.Check(t, btrfs.SyncFilesystem(s.source.File()))
	s.outside = s.look()
	return s
}

// snapshot takes a snapshot of the source.
func (s *scene) snapshot(name string) btrfs.Subvolume {
	s.t.Helper()
	home := s.top + "/home"
	taken, err := s.source.Take(s.t.Context(), home, info(s.t, home).UUID, name)
	btrfstest.Check(s.t, err)
	return taken
}

func (s *scene) stream(name, parent string) []byte {
	s.t.Helper()
	var b bytes.Buffer
	_, err := s.source.Send(s.t.Context(), host.SendOrder{Snapshot: name, Parent: parent}, &b)
	btrfstest.Check(s.t, err)
	return b.Bytes()
}

// look gives everything that must stay as it is: what is outside of the root, the client's backup, and the files and names
// beside it.
func (s *scene) look() map[string]string {
	s.t.Helper()
	seen := make(map[string]string)
	for _, top := range []string{s.top + "/outside", s.top + "/home", s.top + "/source/" + mine, s.top + "/source/" + theirs, s.other, s.folder + "/" + mine,
		s.folder + "/.btrfs-backup", s.folder + "/.outstanding_transfers", s.root + "/link", s.folder + "/up"} {
		_ = filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				seen[path], err = looks(path)
			}
			return err // what is gone is not seen
		})
	}
	for _, dir := range []string{s.top, s.top + "/backup", s.root, s.folder} {
		entries, err := os.ReadDir(dir)
		btrfstest.Check(s.t, err)
		seen[dir] = fmt.Sprint(entries)
	}
	return seen
}

// looks describes a file by everything but the time of its last access.
func looks(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", err
	}
	about := fmt.Sprint(st.Ino, st.Mode, st.Nlink, st.Uid, st.Gid, st.Rdev, st.Size, st.Mtim, st.Ctim)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		content, err := os.ReadFile(path)
		return about + fmt.Sprintf(" %x", sha256.Sum256(content)), err
	case unix.S_IFLNK:
		to, err := os.Readlink(path)
		return about + " " + to, err
	case unix.S_IFDIR:
		if filepath.Base(path) == tree.StateDir { // notices come and go in it
			return fmt.Sprint(st.Ino, st.Mode), nil
		}
		dir, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer dir.Close()
		if btrfs.CheckSubvolume(dir) == nil {
			info, err := btrfs.Info(dir)
			return about + fmt.Sprint(info.ID, info.UUID, info.ReceivedUUID, info.ReadOnly, info.Name), err
		}
	}
	return about, nil
}

// mustStand fails the test if anything was changed that is not the client's to change.
func (s *scene) mustStand() {
	s.t.Helper()
	now := s.look()
	for _, path := range slices.Sorted(maps.Keys(s.outside)) {
		if now[path] != s.outside[path] {
			s.t.Errorf("%s was\n%s, is\n%s", path, s.outside[path], now[path])
		}
	}
	for path := range now {
		if _, ok := s.outside[path]; !ok {
			s.t.Errorf("%s was made", path)
		}
	}
	s.outside = now
}

// mustServe fails the test if an honest client cannot make a backup any more, in the given session and in a new one.
func (s *scene) mustServe(c *client) {
	s.t.Helper()
	for _, c := range []*client{c, connect(s.t, c.o)} {
		s.increments++
		name := fmt.Sprintf("20270101-%06d", s.increments)
		s.snapshot(name)
		if err := c.backUp(s.folder, name, s.stream(name, mine), btrfs.UUID{1}); err != nil {
			s.t.Errorf("an honest backup: %v", err)
			return
		}
		btrfstest.Equal(s.t, s.source.Status().Path+"/"+name, s.folder+"/"+name)
	}
	s.outside = s.look()
}

func (s *scene) limits() Options {
	return Options{Limits: Limits{Root: s.root, AppendOnly: true}}
}

// traps are streams whose paths are clean, and which leave the subvolume all the same.
func (s *scene) traps() map[string][]byte {
	at := s.top + "/outside"
	first := func(rest ...[]byte) []byte {
		return streamtest.Stream(1, append([][]byte{streamtest.Subvol()}, rest...)...)
	}
	disk := streamtest.Makes(sendstream.CmdMknod, "disk", streamtest.Number(sendstream.AttrMode, unix.S_IFBLK|0o600), streamtest.Number(sendstream.AttrRdev, s.device()))
	return map[string][]byte{
		"a file behind a link":        first(streamtest.Symlink("s", at), streamtest.Makes(sendstream.CmdMkfile, "s/x")),
		"a directory behind a link":   first(streamtest.Symlink("s", at), streamtest.Makes(sendstream.CmdMkdir, "s/x")),
		"a device behind a link":      first(streamtest.Symlink("s", at), streamtest.Makes(sendstream.CmdMkfifo, "s/x")),
		"a link behind a link":        first(streamtest.Symlink("s", at), streamtest.Symlink("s/x", "/etc")),
		"a hard link behind a link":   first(streamtest.Symlink("s", at), streamtest.Encode(sendstream.CmdLink, streamtest.Text(sendstream.AttrPath, "s/x"), streamtest.Text(sendstream.AttrPathLink, "s/file"))),
		"writing to a link":           first(streamtest.Symlink("s", at+"/file"), streamtest.Write("s", "mine")),
		"writing behind a link":       first(streamtest.Symlink("s", at), streamtest.Write("s/file", "mine")),
		"cutting off a link's target": first(streamtest.Symlink("s", at+"/file"), streamtest.Encode(sendstream.CmdTruncate, streamtest.Text(sendstream.AttrPath, "s"), streamtest.Number(sendstream.AttrSize, 1))),
		"opening a link's target":     first(streamtest.Symlink("s", at+"/file"), streamtest.Encode(sendstream.CmdChmod, streamtest.Text(sendstream.AttrPath, "s"), streamtest.Number(sendstream.AttrMode, 0o777))),
		"owning behind a link":        first(streamtest.Symlink("s", at), streamtest.Encode(sendstream.CmdChown, streamtest.Text(sendstream.AttrPath, "s/file"), streamtest.Number(sendstream.AttrUID, 7), streamtest.Number(sendstream.AttrGID, 7))),
		"an attribute behind a link":  first(streamtest.Symlink("s", at), streamtest.Encode(sendstream.CmdSetXattr, streamtest.Text(sendstream.AttrPath, "s/file"), streamtest.Text(sendstream.AttrXattrName, "user.x"), streamtest.Text(sendstream.AttrXattrData, "x"))),
		"deleting behind a link":      first(streamtest.Symlink("s", at), streamtest.Encode(sendstream.CmdUnlink, streamtest.Text(sendstream.AttrPath, "s/file"))),
		"moving behind a link":        first(streamtest.Symlink("s", at), streamtest.Encode(sendstream.CmdRename, streamtest.Text(sendstream.AttrPath, "s/file"), streamtest.Text(sendstream.AttrPathTo, "s/f"))),
		"a sibling's name":            first(streamtest.Symlink("s", ".."), streamtest.Encode(sendstream.CmdRename, streamtest.Text(sendstream.AttrPath, "s/"+mine), streamtest.Text(sendstream.AttrPathTo, "s/20200101-000000"))),
		"the record of origins":       first(streamtest.Symlink("s", "../.btrfs-backup"), streamtest.Write("s/origins.json", "{}")),
		"a ledger":                    first(streamtest.Symlink("s", ".."), streamtest.Makes(sendstream.CmdMkfile, "s/.outstanding_transfers")),
		"a link of the parent":        streamtest.Stream(1, streamtest.SnapshotOf(s.first.UUID), streamtest.Makes(sendstream.CmdMkfile, "out/x")),
		"writing to a disk":           first(disk, streamtest.Write("disk", "mine")),
	}
}

// device gives the number of a disk that is the test's own.
func (s *scene) device() uint64 {
	if s.loop == "" {
		s.loopFile = filepath.Join(s.t.TempDir(), "disk")
		btrfstest.Check(s.t, os.WriteFile(s.loopFile, make([]byte, 1<<20), 0o600))
		s.loop = btrfstest.Run(s.t, "losetup", "--find", "--show", s.loopFile)
		s.t.Cleanup(func() { btrfstest.Run(s.t, "losetup", "--detach", s.loop) })
	}
	var st unix.Stat_t
	btrfstest.Check(s.t, unix.Stat(s.loop, &st))
	return uint64(st.Rdev)
}

// disk gives what stands at the beginning of the disk.
func (s *scene) disk() string {
	btrfstest.Run(s.t, "sync", s.loop)
	content, err := os.ReadFile(s.loopFile)
	btrfstest.Check(s.t, err)
	return strings.TrimRight(string(content[:16]), "\x00")
}

// TestStockReceiveFallsIntoEveryTrap proves that the streams used against the agent do harm.
func TestStockReceiveFallsIntoEveryTrap(t *testing.T) {
	btrfstest.RequireRoot(t)
	for _, name := range slices.Sorted(maps.Keys(newScene(t).traps())) {
		s := newScene(t)
		stream := s.traps()[name]
		before, disk := s.look(), s.disk()
		var renamed bytes.Buffer
		_, err := sendstream.NewRenamer(&renamed, ".x.incoming").Write(stream)
		btrfstest.Check(t, err)
		receive := exec.Command("btrfs", "receive", s.folder)
		receive.Stdin = &renamed
		out, _ := receive.CombinedOutput() // it may fail later
		btrfstest.Check(t, btrfs.Delete(btrfstest.Open(t, s.folder), ".x.incoming"))
		if s.disk() == disk && maps.Equal(s.look(), before) {
			t.Errorf("%s does nothing: %s", name, out)
		}
	}
}
