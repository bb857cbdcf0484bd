package serve

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// notices gives the notices in a folder.
func notices(folder string) []string {
	all, _ := filepath.Glob(filepath.Join(folder, tree.StateDir, "receiving-*"))
	return all
}

func TestATransferIsFoundByAFileThatOnlyItsUserReads(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, s.limits())
	name := "20260505-000000"
	r, sender, err := c.push(protocol.Dir{Path: s.folder}, name, s.stream(mine, "")[:100])
	btrfstest.Check(t, err)
	found := notices(s.folder)
	if len(found) != 1 || filepath.Base(found[0]) != "receiving-"+name {
		t.Fatalf("there is %v", found)
	}
	st, err := os.Stat(found[0])
	btrfstest.Check(t, err)
	content, err := os.ReadFile(found[0])
	btrfstest.Check(t, err)
	if st.Mode() != 0o600 || string(content) != r.Stream.Address {
		t.Errorf("mode %v, content %q, want %q", st.Mode(), content, r.Stream.Address)
	}
	sender.Abort(fs.ErrClosed)
	btrfstest.Check(t, c.call(protocol.Abort.Name, protocol.AbortCall{Dir: protocol.Dir{Path: s.folder}, Name: name, Stream: r.Stream}, nil))
	if left := append(notices(s.folder), notices(s.root)...); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(s.root, tree.StateDir)); err == nil {
		t.Error("an empty directory is left in the root")
	}
}

func TestWhatIsNoLivingTransferOfOursIsNotInTheWay(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, s.limits())
	for i, content := range []string{"@btrfs-backup/GONE", "", "@/tmp/.X11-unix/X0", strings.Repeat("x", 1<<20)} {
		name := fmt.Sprintf("20260505-00000%d", i)
		s.snapshot(name)
		btrfstest.Check(t, os.WriteFile(filepath.Join(s.folder, tree.StateDir, "receiving-"+name), []byte(content), 0o600))
		if err := c.backUp(s.folder, name, s.stream(name, mine), btrfs.UUID{1}); err != nil {
			t.Errorf("%.30q: %v", content, err)
		}
	}
	if left := notices(s.folder); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestNothingIsParkedBeforeAByteCame(t *testing.T) {
	s := newClientScene(t)
	o := s.limits()
	o.ResumeWindow = 2 * time.Minute
	c := connect(t, o)
	for i := range 3 {
		var r protocol.ReceiveReply
		order := host.ReceiveOrder{Name: fmt.Sprintf("20260505-00000%d", i), Key: "key"}
		btrfstest.Check(t, c.call(protocol.Receive.Name, protocol.ReceiveCall{Dir: protocol.Dir{Path: s.folder}, Order: order}, &r))
	}
	c.conn.Close()
	for end := time.Now().Add(5 * time.Minute); len(notices(s.folder)) > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	d := open(t, newHost(), s.folder)
	for _, left := range notices(s.folder) {
		t.Errorf("parked: %s", left)
		btrfstest.Check(t, tell(d.ParkedAddress(strings.TrimPrefix(filepath.Base(left), "receiving-")), request{Op: opAbort}))
	}
	c.end()
	s.mustStand()
}

func TestTransfersOfAFolderAndAKeyAreLimited(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, s.limits())
	begin := func(folder string, i int) error {
		order := host.ReceiveOrder{Name: fmt.Sprintf("20260505-0000%02d", i), Key: "key"}
		return c.call(protocol.Receive.Name, protocol.ReceiveCall{Dir: protocol.Dir{Path: folder}, Order: order}, nil)
	}
	refused := func(err error, where string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "being received in "+where+" already") || hintOf(err) == "" {
			t.Errorf("one too many in %s: %v", where, err)
		}
	}
	for i := range mostInRoot {
		folder := fmt.Sprintf("%s/folder%d", s.root, i/mostInFolder)
		btrfstest.Check(t, c.call(protocol.Mkdir.Name, folder, nil))
		btrfstest.Check(t, begin(folder, i))
		if i%mostInFolder == mostInFolder-1 {
			refused(begin(folder, 99), folder)
		}
	}
	refused(begin(s.folder, 0), s.root)
}

// lineChannel gets what is logged.
type lineChannel chan string

func (c lineChannel) Write(p []byte) (int, error) {
	c <- string(p)
	return len(p), nil
}

func TestTheOldestParkedTransferGivesWay(t *testing.T) {
	s := newClientScene(t)
	o := s.limits()
	o.ResumeWindow = 2 * time.Minute
	lines := make(lineChannel, 1000)
	o.Log = slog.New(slog.NewTextHandler(lines, nil))
	dir := protocol.Dir{Path: s.folder}
	btrfstest.Check(t, os.WriteFile(s.top+"/home/big", make([]byte, 8<<20), 0o600)) // more than waits to be sent
	for i := range mostInFolder + 2 {
		c := connect(t, o)
		name := fmt.Sprintf("20260505-00000%d", i)
		s.snapshot(name)
		stream := s.stream(name, mine)
		_, _, err := c.push(dir, name, stream[:len(stream)/2])
		if err != nil {
			t.Fatalf("transfer %d: %v", i, err)
		}
		for _, err := os.Stat(filepath.Join(s.folder, btrfs.Incoming(name))); err != nil; _, err = os.Stat(filepath.Join(s.folder, btrfs.Incoming(name))) {
			time.Sleep(10 * time.Millisecond) // until a byte was taken
		}
		c.conn.Close()
		for line := range lines {
			if strings.Contains(line, name+": the connection was lost") {
				break
			}
		}
	}
	found := notices(s.folder)
	slices.Sort(found)
	if len(found) != mostInFolder || filepath.Base(found[0]) != "receiving-20260505-000002" {
		t.Errorf("parked are %v", found)
	}
	c := connect(t, o)
	for i := range mostInFolder {
		order := host.ReceiveOrder{Name: fmt.Sprintf("20260505-00000%d", i+2), Key: "key"}
		var r protocol.ReceiveReply
		btrfstest.Check(t, c.call(protocol.Receive.Name, protocol.ReceiveCall{Dir: dir, Order: order}, &r))
		if r.Taken.Bytes == 0 {
			t.Errorf("%s begins anew", order.Name)
		}
		btrfstest.Check(t, c.call(protocol.Abort.Name, protocol.AbortCall{Dir: dir, Name: order.Name, Stream: r.Stream}, nil))
	}
}

// sleeping makes the test program one that only has its command line.
const sleeping = "BTRFS_BACKUP_TEST_SLEEPS"

func init() {
	if os.Getenv(sleeping) != "" {
		time.Sleep(time.Hour)
	}
}

func TestSessionsOfAKeyAreLimited(t *testing.T) {
	s := newClientScene(t)
	o := s.limits()
	o.Sessions = 2
	for i := range 2 {
		if err := connect(t, o).call(protocol.Open.Name, protocol.Dir{Path: s.folder}, nil); err != nil {
			t.Errorf("with %d other sessions: %v", i, err)
		}
		other := exec.Command("/proc/self/exe")
		other.Args, other.Env = os.Args, append(os.Environ(), sleeping+"=1")
		btrfstest.Check(t, other.Start())
		t.Cleanup(func() {
			_ = other.Process.Kill()
			_ = other.Wait()
		})
	}
	err := connect(t, o).call(protocol.Open.Name, protocol.Dir{Path: s.folder}, nil)
	if err == nil || !strings.Contains(err.Error(), "has 2 sessions already") || hintOf(err) == "" {
		t.Errorf("one session too many: %v", err)
	}
	o.Limits = Limits{}
	btrfstest.Check(t, connect(t, o).call(protocol.Open.Name, protocol.Dir{Path: s.folder}, nil))
}

func TestALockOfALimitedKeyEnds(t *testing.T) {
	s := newClientScene(t)
	o := s.limits()
	o.LockTime = time.Second
	btrfstest.Check(t, connect(t, o).call(protocol.Lock.Name, protocol.LockCall{Dir: protocol.Dir{Path: s.folder}}, nil))
	d := open(t, newHost(), s.folder)
	release, err := d.Lock(t.Context(), func(*lock.HeldError) {})
	btrfstest.Check(t, err)
	btrfstest.Check(t, release())
	o.Limits = Limits{}
	btrfstest.Check(t, connect(t, o).call(protocol.Lock.Name, protocol.LockCall{Dir: protocol.Dir{Path: s.folder}}, nil))
	time.Sleep(2 * o.LockTime)
	if release, err := d.Lock(t.Context(), nil); err == nil {
		t.Errorf("a lock of a key without limits ended: %v", release())
	}
}
