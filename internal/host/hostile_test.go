package host

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/transport/wire"

	"golang.org/x/sys/unix"
)

// A client speaks the protocol to an agent, as it likes.
type client struct {
	t    testing.TB
	o    ServeOptions
	conn *wire.Conn
	end  func() // of the connection; returns when the agent ended
}

// connect starts an agent and greets it.
func connect(t testing.TB, o ServeOptions) *client {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	if o.ResumeWindow == 0 {
		o.ResumeWindow = 3 * time.Second
	}
	met, served, err := greetServe(t, o, greeting{})
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
func greetServe(t testing.TB, o ServeOptions, g greeting) (*wire.Greeting, chan error, error) {
	t.Helper()
	stdin, out, err := os.Pipe()
	btrfstest.Check(t, err)
	in, stdout, err := os.Pipe()
	btrfstest.Check(t, err)
	served := make(chan error, 1)
	go func() {
		served <- Serve(context.WithoutCancel(t.Context()), stdin, stdout, o)
		stdin.Close()
		stdout.Close()
		close(served)
	}()
	part, err := wire.Encode(g)
	btrfstest.Check(t, err)
	met, err := wire.Dial(t.Context(), duplex{in, out, nil}, wire.Hello{Part: part}, wire.Options{})
	return met, served, err
}

func (c *client) call(verb string, args, reply any) error {
	return fromWire(c.conn.Call(c.t.Context(), verb, args, reply, nil))
}

// join opens one more session, which is to carry a stream.
func (c *client) join(name streamName) (io.ReadWriteCloser, error) {
	met, served, err := greetServe(c.t, c.o, greeting{Join: name})
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
func (c *client) push(dir dirName, name string, stream []byte) (receiveReply, *wire.Sender, error) {
	var r receiveReply
	if err := c.call(verbReceive, receiveCall{Dir: dir, Order: ReceiveOrder{Name: name, Key: "key"}}, &r); err != nil {
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
	dir := dirName{Path: folder}
	r, sender, err := c.push(dir, name, stream)
	if sender == nil {
		return err
	}
	if sendErr := cmp.Or(err, sender.Close()); sendErr != nil && !errors.Is(sendErr, wire.ErrRefused) {
		return sendErr
	}
	var sub btrfs.Subvolume
	err = c.call(verbClose, r.Stream, &sub)
	if err == nil {
		err = c.call(verbCommit, commitCall{dir, name, sub.UUID, origin, r.Stream}, nil)
	}
	if err != nil {
		err = errors.Join(err, c.call(verbAbort, abortCall{dir, name, r.Stream}, nil))
	}
	return err
}

// scene is a filesystem with a confined client's folder and much that is none of his business.
type scene struct {
	t              testing.TB
	top            string
	root, folder   string // of the client
	other          string // another client's folder
	source         *localDir
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
	s := &scene{t: t, top: btrfstest.New(t, localSize).Dir}
	s.root, s.other = s.top+"/backup/laptop", s.top+"/backup/laptop2"
	s.folder = s.root + "/home"
	for _, dir := range []string{s.folder, s.other, s.top + "/outside", s.top + "/source"} {
		btrfstest.Check(t, os.MkdirAll(dir, 0o755))
	}
	btrfstest.Check(t, os.WriteFile(s.top+"/outside/file", []byte("theirs"), 0o644))
	btrfstest.Check(t, os.Symlink(s.top+"/outside", s.root+"/link"))
	btrfstest.Check(t, os.Symlink("../../laptop2", s.folder+"/up"))
	btrfstest.Check(t, os.Symlink(".", s.folder+"/loop"))
	home := localSubvolume(t, s.top, "home")
	btrfstest.Check(t, os.WriteFile(home+"/file", bytes.Repeat([]byte("secret"), 10_000), 0o600))
	btrfstest.Check(t, os.Symlink(s.top+"/outside", home+"/out"))
	btrfstest.Check(t, os.Mkdir(home+"/dir", 0o755))
	s.source = localOpen(t, localHost(), s.top, "source")
	s.first, s.stolen = s.snapshot(mine), s.snapshot(theirs)
	c := connect(t, ServeOptions{})
	btrfstest.Check(t, c.backUp(s.folder, mine, s.stream(mine, ""), btrfs.UUID{1}))
	btrfstest.Check(t, c.backUp(s.other, theirs, s.stream(theirs, ""), btrfs.UUID{2}))
	c.end()
	btrfstest.Check(t, btrfs.SyncFilesystem(s.source.dir))
	s.outside = s.look()
	return s
}

// snapshot takes a snapshot of the source.
func (s *scene) snapshot(name string) btrfs.Subvolume {
	s.t.Helper()
	home := s.top + "/home"
	taken, err := s.source.Take(s.t.Context(), home, localInfo(s.t, home).UUID, name)
	btrfstest.Check(s.t, err)
	return taken
}

func (s *scene) stream(name, parent string) []byte {
	s.t.Helper()
	var b bytes.Buffer
	_, err := s.source.Send(s.t.Context(), SendOrder{Snapshot: name, Parent: parent}, &b)
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
		btrfstest.Equal(s.t, s.source.status.Path+"/"+name, s.folder+"/"+name)
	}
	s.outside = s.look()
}

func (s *scene) limits() ServeOptions {
	return ServeOptions{Limits: Limits{Root: s.root, AppendOnly: true}}
}

// The encoder below makes streams that no btrfs send makes.

type attribute struct {
	t     sendstream.AttrType
	value []byte
}

func text(t sendstream.AttrType, value string) attribute { return attribute{t, []byte(value)} }
func uuid(t sendstream.AttrType, u btrfs.UUID) attribute { return attribute{t, u[:]} }
func number(t sendstream.AttrType, value uint64) attribute {
	return attribute{t, binary.LittleEndian.AppendUint64(nil, value)}
}

// encode makes a command.
func encode(c sendstream.CommandType, attributes ...attribute) []byte {
	var body []byte
	for _, a := range attributes {
		body = binary.LittleEndian.AppendUint16(body, uint16(a.t))
		body = binary.LittleEndian.AppendUint16(body, uint16(len(a.value)))
		body = append(body, a.value...)
	}
	return encodeBody(c, body)
}

// encodeBody computes the checksum as the kernel does: inverted neither at the start nor at the end.
func encodeBody(c sendstream.CommandType, body []byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(body)))
	out = binary.LittleEndian.AppendUint16(out, uint16(c))
	out = append(append(out, 0, 0, 0, 0), body...)
	binary.LittleEndian.PutUint32(out[6:], ^crc32.Update(^uint32(0), crc32.MakeTable(crc32.Castagnoli), out))
	return out
}

// encodeStream makes a stream of commands, and its end.
func encodeStream(protocol uint32, commands ...[]byte) []byte {
	out := binary.LittleEndian.AppendUint32([]byte("btrfs-stream\x00"), protocol)
	return append(append(out, slices.Concat(commands...)...), encode(sendstream.CmdEnd)...)
}

var hostileUUID = btrfs.UUID{0xbd, 1, 2, 3}

func subvol() []byte {
	return encode(sendstream.CmdSubvol, text(sendstream.AttrPath, "x"), uuid(sendstream.AttrUUID, hostileUUID), number(sendstream.AttrCtransid, 7))
}

func snapshotOf(parent btrfs.UUID) []byte {
	return encode(sendstream.CmdSnapshot, text(sendstream.AttrPath, "x"), uuid(sendstream.AttrUUID, hostileUUID), number(sendstream.AttrCtransid, 7),
		uuid(sendstream.AttrCloneUUID, parent), number(sendstream.AttrCloneCtransid, 5))
}

func makes(c sendstream.CommandType, path string, more ...attribute) []byte {
	return encode(c, append([]attribute{text(sendstream.AttrPath, path), number(sendstream.AttrIno, 300)}, more...)...)
}

func symlink(path, target string) []byte {
	return makes(sendstream.CmdSymlink, path, text(sendstream.AttrPathLink, target))
}

func write(path, data string) []byte {
	return encode(sendstream.CmdWrite, text(sendstream.AttrPath, path), number(sendstream.AttrFileOffset, 0), text(sendstream.AttrData, data))
}

func cloneFrom(from btrfs.UUID, path string) []byte {
	return encode(sendstream.CmdClone, text(sendstream.AttrPath, "mine"), number(sendstream.AttrFileOffset, 0), number(sendstream.AttrCloneLen, 4096),
		uuid(sendstream.AttrCloneUUID, from), number(sendstream.AttrCloneCtransid, 5), text(sendstream.AttrClonePath, path), number(sendstream.AttrCloneOffset, 0))
}

// traps are streams whose paths are clean, and which leave the subvolume all the same.
func (s *scene) traps() map[string][]byte {
	at := s.top + "/outside"
	first := func(rest ...[]byte) []byte { return encodeStream(1, append([][]byte{subvol()}, rest...)...) }
	disk := makes(sendstream.CmdMknod, "disk", number(sendstream.AttrMode, unix.S_IFBLK|0o600), number(sendstream.AttrRdev, s.device()))
	return map[string][]byte{
		"a file behind a link":        first(symlink("s", at), makes(sendstream.CmdMkfile, "s/x")),
		"a directory behind a link":   first(symlink("s", at), makes(sendstream.CmdMkdir, "s/x")),
		"a device behind a link":      first(symlink("s", at), makes(sendstream.CmdMkfifo, "s/x")),
		"a link behind a link":        first(symlink("s", at), symlink("s/x", "/etc")),
		"a hard link behind a link":   first(symlink("s", at), encode(sendstream.CmdLink, text(sendstream.AttrPath, "s/x"), text(sendstream.AttrPathLink, "s/file"))),
		"writing to a link":           first(symlink("s", at+"/file"), write("s", "mine")),
		"writing behind a link":       first(symlink("s", at), write("s/file", "mine")),
		"cutting off a link's target": first(symlink("s", at+"/file"), encode(sendstream.CmdTruncate, text(sendstream.AttrPath, "s"), number(sendstream.AttrSize, 1))),
		"opening a link's target":     first(symlink("s", at+"/file"), encode(sendstream.CmdChmod, text(sendstream.AttrPath, "s"), number(sendstream.AttrMode, 0o777))),
		"owning behind a link":        first(symlink("s", at), encode(sendstream.CmdChown, text(sendstream.AttrPath, "s/file"), number(sendstream.AttrUID, 7), number(sendstream.AttrGID, 7))),
		"an attribute behind a link":  first(symlink("s", at), encode(sendstream.CmdSetXattr, text(sendstream.AttrPath, "s/file"), text(sendstream.AttrXattrName, "user.x"), text(sendstream.AttrXattrData, "x"))),
		"deleting behind a link":      first(symlink("s", at), encode(sendstream.CmdUnlink, text(sendstream.AttrPath, "s/file"))),
		"moving behind a link":        first(symlink("s", at), encode(sendstream.CmdRename, text(sendstream.AttrPath, "s/file"), text(sendstream.AttrPathTo, "s/f"))),
		"a sibling's name":            first(symlink("s", ".."), encode(sendstream.CmdRename, text(sendstream.AttrPath, "s/"+mine), text(sendstream.AttrPathTo, "s/20200101-000000"))),
		"the record of origins":       first(symlink("s", "../.btrfs-backup"), write("s/origins.json", "{}")),
		"a ledger":                    first(symlink("s", ".."), makes(sendstream.CmdMkfile, "s/.outstanding_transfers")),
		"a link of the parent":        encodeStream(1, snapshotOf(s.first.UUID), makes(sendstream.CmdMkfile, "out/x")),
		"writing to a disk":           first(disk, write("disk", "mine")),
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
