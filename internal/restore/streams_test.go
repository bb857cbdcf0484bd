package restore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/restore/chain"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/sys/unix"
)

// A store holds a stream of each of four snapshots of a subvolume, the first one complete.
type store struct {
	testing.TB
	dir    string
	source string // filesystem
	target string // another one
	names  []string
}

func newStore(t testing.TB) *store {
	t.Helper()
	s := &store{TB: t, dir: t.TempDir(), source: btrfstest.New(t, 128<<20).Dir, target: btrfstest.New(t, 128<<20).Dir}
	home := filepath.Join(s.source, "home")
	btrfstest.Check(t, btrfs.Create(btrfstest.Open(t, s.source), "home"))
	for i := range 4 {
		btrfstest.Check(t, os.WriteFile(filepath.Join(home, fmt.Sprint("file", i)), bytes.Repeat([]byte(fmt.Sprint(i)), 200_000), 0o600))
		name := engine.Naming{}.Name(time.Date(2026, 6, 1+i, 12, 0, 0, 0, time.Local))
		btrfstest.Check(t, btrfs.Snapshot(btrfstest.Open(t, home), btrfstest.Open(t, s.source), name))
		args := []string{"btrfs", "send", "-q", "-f", s.file(name)}
		if i > 0 {
			args = append(args, "-p", filepath.Join(s.source, s.names[i-1]))
		}
		btrfstest.Run(t, append(args, filepath.Join(s.source, name))...)
		s.names = append(s.names, name)
	}
	return s
}

func (s *store) file(name string) string { return filepath.Join(s.dir, name) }

func (s *store) files(which ...int) (inputs []*chain.Input) {
	for _, i := range which {
		inputs = append(inputs, chain.File(s.file(s.names[i])))
	}
	return inputs
}

func (s *store) read(i int) []byte {
	s.Helper()
	content, err := os.ReadFile(s.file(s.names[i]))
	btrfstest.Check(s, err)
	return content
}

func (s *store) order(name string) Order {
	silent := slog.New(slog.DiscardHandler)
	return Order{To: local.New(silent), Target: filepath.Join(s.target, name),
		Settings: engine.Settings{Log: silent, Now: time.Now, NoWait: true, State: lock.State{Dir: s.file("state")}}}
}

func (s *store) restores(name string, streams Streams) *Report {
	s.Helper()
	did, err := RunStreams(s.Context(), s.order(name), streams)
	btrfstest.Check(s, err)
	return did
}

// refuses fails unless the error tells this and nothing is left.
func (s *store) refuses(streams Streams, text, forward string) {
	s.Helper()
	did, err := RunStreams(s.Context(), s.order("home"), streams)
	if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(hint.Of(err), forward) {
		s.Errorf("%v, hint %q, want %q, %q; %+v", err, hint.Of(err), text, forward, did)
	}
	s.leaves()
}

// leaves compares what is on the target's filesystem.
func (s *store) leaves(want ...string) {
	s.Helper()
	l, err := btrfs.List(btrfstest.Open(s, s.target))
	btrfstest.Check(s, err)
	var got []string
	for _, sub := range l.All {
		got = append(got, sub.Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if entries, _ := filepath.Glob(filepath.Join(s.target, ".*")); !slices.Equal(got, want) || len(want) == 0 && len(entries) > 0 {
		s.Errorf("there are %q and %q, want %q", got, entries, want)
	}
}

// holds fails unless a subvolume holds what the snapshot of that number does.
func (s *store) holds(path string, i int) {
	s.Helper()
	for n := range 4 {
		content, err := os.ReadFile(filepath.Join(path, fmt.Sprint("file", n)))
		if n > i && err == nil || n <= i && (err != nil || !bytes.Equal(content, bytes.Repeat([]byte(fmt.Sprint(n)), 200_000))) {
			s.Errorf("%s: file %d: %d bytes, %v", path, n, len(content), err)
		}
	}
}

func TestASubvolumeComesBackFromStreamsInAnyOrder(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	dry := s.order("home")
	dry.DryRun = true
	did, err := RunStreams(t.Context(), dry, Streams{Inputs: s.files(3, 1, 0, 2)})
	if err != nil || len(did.Streams) != 4 || did.Streams[3].Parent != s.names[2] {
		t.Errorf("a dry run: %v, %+v", err, did)
	}
	s.leaves()
	did = s.restores("home", Streams{Inputs: s.files(3, 1, 0, 2)})
	s.holds(filepath.Join(s.target, "home"), 3)
	s.leaves("home", s.names[3])
	if len(did.Streams) != 4 || did.Snapshot != s.names[3] || did.Streams[0].Snapshot != s.names[0] || did.Streams[0].Parent != "" {
		t.Errorf("it tells %+v", did)
	}
	copied, err := btrfs.Info(btrfstest.Open(t, filepath.Join(s.target, "home/snapshot", s.names[3])))
	original, originalErr := btrfs.Info(btrfstest.Open(t, filepath.Join(s.source, s.names[3])))
	if err != nil || originalErr != nil || copied.ReceivedUUID != original.UUID || !copied.ReadOnly {
		t.Errorf("the copy is %+v", copied)
	}
	again := s.restores("again", Streams{Inputs: s.files(3)})
	if s.holds(filepath.Join(s.target, "again"), 3); !again.Present || len(again.Streams) > 0 {
		t.Errorf("it tells %+v", again)
	}
}

func TestOfStreamsTheNewestUntilADateIsRestoredUponWhatIsThere(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.restores("old", Streams{Inputs: s.files(0, 1, 2, 3), Until: time.Date(2026, 6, 2, 13, 0, 0, 0, time.Local)})
	s.holds(filepath.Join(s.target, "old"), 1)
	did := s.restores("new", Streams{Inputs: s.files(3, 2)})
	s.holds(filepath.Join(s.target, "new"), 3)
	if s.leaves("old", "new", s.names[1], s.names[3]); len(did.Streams) != 2 || did.Streams[0].Parent != s.names[1] {
		t.Errorf("it tells %+v", did)
	}
}

func TestStreamsReplaceASubvolumeThatIsKept(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.restores("home", Streams{Inputs: s.files(0, 1)})
	order := s.order("home")
	order.InPlace = true
	did, err := RunStreams(t.Context(), order, Streams{Inputs: s.files(3, 2)})
	btrfstest.Check(t, err)
	s.holds(filepath.Join(s.target, "home"), 3)
	before, _ := filepath.Glob(filepath.Join(s.target, "home.before-*"))
	if len(before) != 1 || len(did.Streams) != 2 {
		t.Fatalf("%q, %+v", before, did)
	}
	s.holds(before[0], 1)
	s.leaves("home", filepath.Base(before[0]), s.names[1], s.names[3])
}

func TestAMissingStreamIsToldBeforeAnythingIsMade(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	info, err := btrfs.Info(btrfstest.Open(t, filepath.Join(s.source, s.names[1])))
	btrfstest.Check(t, err)
	s.refuses(Streams{Inputs: s.files(3, 0, 2)}, "a stream is missing: "+s.names[2]+" is built upon that of the snapshot "+info.UUID.String(), s.names[0])
	s.refuses(Streams{Inputs: append(s.files(0), chain.File(s.file("missing")))}, "missing: no such file", "")
	s.refuses(Streams{Inputs: []*chain.Input{chain.File(s.dir)}}, "is a directory", "name the files")
	s.refuses(Streams{Inputs: s.files(0), Until: time.Date(2025, 1, 1, 0, 0, 0, 0, time.Local)}, "as old as", "")
	btrfstest.Check(t, os.WriteFile(s.file("empty"), nil, 0o600))
	s.refuses(Streams{Inputs: []*chain.Input{chain.File(s.file("empty"))}}, "it is empty", "was it stored?")
	btrfstest.Check(t, os.WriteFile(s.file("text"), []byte("this is no stream at all, whatever it may be"), 0o600))
	s.refuses(Streams{Inputs: []*chain.Input{chain.File(s.file("text"))}}, "corrupt", "another copy")
	other := s.order("home")
	other.Target = filepath.Join(btrfstest.NewOther(t, "ext4", 64<<20).Dir, "home")
	if _, err := RunStreams(t.Context(), other, Streams{Inputs: s.files(0)}); !errors.Is(err, btrfs.ErrNotBtrfs) || hint.Of(err) == "" {
		t.Errorf("not on btrfs: %v", err)
	}
}

func TestAStreamThatIsDamagedInTheMiddleLeavesWhatWasReceivedBeforeForTheNextAttempt(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	good := s.read(2)
	bad := slices.Clone(good)
	bad[len(bad)/2] ^= 1
	for problem, content := range map[string][]byte{"send stream is corrupt": bad, "it is incomplete: it ends in the middle": good[:len(good)-5]} {
		btrfstest.Check(t, os.WriteFile(s.file(s.names[2]), content, 0o600))
		_, err := RunStreams(t.Context(), s.order("home"), Streams{Inputs: s.files(0, 1, 2, 3)})
		if err == nil || !strings.Contains(err.Error(), s.file(s.names[2])+": "+problem) || !strings.Contains(hint.Of(err), "another copy") {
			t.Errorf("%v, hint %q", err, hint.Of(err))
		}
		s.leaves(hiddenName(s.names[0]), hiddenName(s.names[1]))
	}
	btrfstest.Check(t, os.WriteFile(s.file(s.names[2]), good, 0o600))
	if did := s.restores("home", Streams{Inputs: s.files(0, 1, 2, 3)}); len(did.Streams) != 2 || did.Streams[0].Snapshot != s.names[2] {
		t.Errorf("received again: %+v", did.Streams)
	}
	s.holds(filepath.Join(s.target, "home"), 3)
	s.leaves("home", s.names[3])
}

func TestStreamsMayBeCompressedAndBehindEachOther(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	btrfstest.Run(t, "sh", "-ec", `cd "$1"; cat $2 $3 >two; cat $4 | gzip >third.gz; zstd -q $5`, "sh", s.dir, s.names[0], s.names[1], s.names[2], s.names[3])
	inputs := []*chain.Input{chain.File(s.file(s.names[3] + ".zst")), chain.File(s.file("third.gz")), chain.File(s.file("two"))}
	s.restores("home", Streams{Inputs: inputs})
	s.holds(filepath.Join(s.target, "home"), 3)
	s.leaves("home", s.names[3])
	btrfstest.Check(t, os.Rename(s.target+"/home/snapshot/"+s.names[3], s.target+"/home/snapshot/renamed"))
	btrfstest.Run(t, "btrfs", "subvolume", "delete", s.target+"/home/snapshot/renamed", s.target+"/home")
	r, w := io.Pipe()
	go func() {
		for i := range 4 {
			_, _ = w.Write(s.read(i))
		}
		_ = w.Close()
	}()
	s.restores("piped", Streams{Inputs: []*chain.Input{chain.Stdin(r)}})
	s.holds(filepath.Join(s.target, "piped"), 3)
	s.leaves("piped", s.names[3])
}

func TestStreamsComeFromACommandThatIsToldTheName(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	silent := slog.New(slog.DiscardHandler)
	command := func(line string) (inputs []*chain.Input) {
		for _, name := range s.names {
			inputs = append(inputs, chain.Command(line, name, silent))
		}
		return inputs
	}
	s.refuses(Streams{Inputs: command(`echo no such object >&2; exit 3`)}, "the command: no such object", "")
	_, err := RunStreams(t.Context(), s.order("home"), Streams{Inputs: command(`cat "` + s.dir + `/{snapshot}"; sleep 0.05; exit 4`)})
	if err == nil || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("a command that fails at its end: %v", err)
	}
	s.leaves()
	s.restores("home", Streams{Inputs: command(`cat "` + s.dir + `/$BTRFS_BACKUP_SNAPSHOT"`)})
	s.holds(filepath.Join(s.target, "home"), 3)
}

func TestAWholeChainIsReceivedInADirectory(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	btrfstest.Check(t, os.Mkdir(filepath.Join(s.target, "all"), 0o755))
	for range 2 {
		s.restores("all", Streams{Inputs: s.files(1, 0, 3, 2), Keep: true})
		s.leaves(s.names...)
	}
	for i, name := range s.names {
		s.holds(filepath.Join(s.target, "all", name), i)
	}
}

func TestAStreamWritesNothingOutsideOfItsSubvolume(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var named bytes.Buffer
	rename := sendstream.NewRenamer(&named, "..x")
	_, err := rename.Write(s.read(0))
	btrfstest.Check(t, err)
	btrfstest.Check(t, os.WriteFile(s.file("named"), named.Bytes(), 0o600))
	s.refuses(Streams{Inputs: []*chain.Input{chain.File(s.file("named"))}}, "the name of its snapshot is", "")
	outside := filepath.Join(s.target, "outside")
	btrfstest.Check(t, os.Mkdir(outside, 0o755))
	for name, commands := range map[string][][]byte{
		"no path":                        {streamtest.Makes(sendstream.CmdMkfile, "../../../outside/file")},
		"neither its own nor its parent": {streamtest.Makes(sendstream.CmdMkfile, "mine"), streamtest.CloneFrom(btrfs.UUID{7}, "file")},
	} {
		hostile := streamtest.Stream(1, append([][]byte{streamtest.Subvol()}, commands...)...)
		btrfstest.Check(t, os.WriteFile(s.file("hostile"), hostile, 0o600))
		_, err := RunStreams(t.Context(), s.order("home"), Streams{Inputs: []*chain.Input{chain.File(s.file("hostile"))}})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		s.leaves()
	}
	if got, _ := os.ReadDir(outside); len(got) > 0 {
		t.Errorf("outside there is %v", got)
	}
}

func TestWhatDoesNotFitIsRefusedOrLeavesRoomForAnotherAttempt(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.target = btrfstest.New(t, 128<<20).Dir
	var st unix.Statfs_t
	btrfstest.Check(t, unix.Statfs(s.target, &st))
	btrfstest.Run(t, "fallocate", "-l", fmt.Sprint(st.Bavail*uint64(st.Bsize)-(12<<20)), filepath.Join(s.target, "full"))
	btrfstest.Run(t, "sync", "-f", s.target)
	btrfstest.Check(t, unix.Statfs(s.target, &st))
	big := filepath.Join(s.source, "big")
	btrfstest.Check(t, btrfs.Create(btrfstest.Open(t, s.source), "big"))
	btrfstest.Run(t, "sh", "-ec", `head -c $2 /dev/urandom >"$1/file"; btrfs subvolume snapshot -r "$1" "$1-ro"; btrfs send -q -f "$3" "$1-ro"; zstd -q "$3"`,
		"sh", big, fmt.Sprint(st.Bavail*uint64(st.Bsize)+(4<<20)), s.file("big"))
	for _, name := range []string{"big", "big.zst"} {
		_, err := RunStreams(t.Context(), s.order("home"), Streams{Inputs: []*chain.Input{chain.File(s.file(name))}})
		if !errors.Is(err, unix.ENOSPC) || hint.Of(err) == "" || name == "big" && !strings.Contains(err.Error(), "at least") {
			t.Errorf("%s: %v", name, err)
		}
		s.leaves()
	}
}
