package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/host"
	"btrfs-backup/lock"
	"btrfs-backup/transport/sshtest"

	"golang.org/x/sys/unix"
)

// transfer sends a snapshot and receives it, up to Close.
func transfer(t testing.TB, from, to host.Dir, o host.SendOrder, wire *int64) (host.Receiver, btrfs.Subvolume) {
	t.Helper()
	count := func(n int64) { atomic.AddInt64(wire, n) }
	o.Wire = count
	r, err := to.Receive(t.Context(), host.ReceiveOrder{Name: o.Snapshot, Wire: count})
	check(t, err)
	size, err := from.Measure(t.Context(), o)
	check(t, err)
	summary, err := from.Send(t.Context(), o, r)
	check(t, err)
	if summary.Bytes == 0 || size != summary.Bytes && !o.Format.Compressed {
		t.Errorf("measured %d bytes, sent %+v", size, summary)
	}
	received, err := r.Close(t.Context())
	check(t, err)
	return r, received
}

func TestBackupsGoFromAnyKindToAnyOther(t *testing.T) {
	btrfstest.RequireRoot(t)
	top, other := btrfstest.New(t, 2*testSize).Dir, btrfstest.New(t, 2*testSize).Dir
	home := newSubvolume(t, top, "ho me")
	folder := newDir(t, top, "snap\nshots")
	btrfstest.Populate(t, home, 1)
	snapshot(t, home, folder+"/$1")
	btrfstest.Change(t, home, 1)
	snapshot(t, home, folder+"/$2")
	first, second := info(t, folder+"/$1"), info(t, folder+"/$2")
	origin := info(t, home).UUID

	hosts := make([]host.Host, len(kinds))
	for i, kind := range kinds {
		hosts[i] = kind.make(t)
	}
	for i, from := range kinds {
		for j, to := range kinds {
			if i > 0 && j > 0 && j != (i+1)%len(kinds) {
				continue // each is once at each side with this process, and once with its neighbour
			}
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				dir := newDir(t, other, from.name+" to "+to.name)
				source, destination := open(t, hosts[i], folder), open(t, hosts[j], dir)
				var wire int64
				r, received := transfer(t, source, destination, host.SendOrder{Snapshot: "$1"}, &wire)
				if received.ReceivedUUID != first.UUID || !received.ReadOnly || received.Name != btrfs.Incoming("$1") {
					t.Errorf("received %+v", received)
				}
				wantNames(t, dir, ".$1.incoming")
				check(t, r.Commit(t.Context(), origin))
				wantNames(t, dir, "$1", ".btrfs-backup")
				btrfstest.Equal(t, folder+"/$1", dir+"/$1", btrfstest.RootTime)

				format := sendstream.Format{Protocol: 2, Compressed: true}
				r, received = transfer(t, source, destination, host.SendOrder{Snapshot: "$2", Parent: "$1", Format: format}, &wire)
				if received.ReceivedUUID != second.UUID || received.ParentUUID != info(t, dir+"/$1").UUID {
					t.Errorf("received %+v", received)
				}
				check(t, r.Commit(t.Context(), origin))
				btrfstest.Equal(t, folder+"/$2", dir+"/$2", btrfstest.RootTime)
				content, err := destination.List(t.Context())
				check(t, err)
				origins, err := host.ParseOrigins(content.Origins)
				if err != nil || len(origins) != 2 || origins[first.UUID] != origin || origins[second.UUID] != origin {
					t.Errorf("origins %v, %v", origins, err)
				}
				if (wire > 0) != (i > 0 || j > 0) {
					t.Errorf("%d bytes crossed the network", wire)
				}
				for _, name := range []string{"$1", "$2"} {
					deleted, err := destination.Delete(t.Context(), []string{name}, host.DeleteOptions{})
					if err != nil || len(deleted) != 1 {
						t.Errorf("deleting: %v", err)
					}
				}
			})
		}
	}
}

func TestSendingGoesOnBehindAPrefix(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		home := newSubvolume(t, top, "home")
		check(t, os.WriteFile(home+"/file", bytes.Repeat([]byte("content"), 50_000), 0o644))
		snapshot(t, home, top+"/s")
		d := open(t, h, top)
		var whole, rest bytes.Buffer
		_, err := d.Send(t.Context(), host.SendOrder{Snapshot: "s"}, &whole)
		check(t, err)
		begun := sendstream.NewPrefixCounter(io.Discard)
		_, err = begun.Write(whole.Bytes()[:100_000])
		check(t, err)
		_, err = d.Send(t.Context(), host.SendOrder{Snapshot: "s", After: begun.Prefix()}, &rest)
		if err != nil || !bytes.Equal(rest.Bytes(), whole.Bytes()[100_000:]) {
			t.Errorf("%d bytes follow, %v", rest.Len(), err)
		}
		other := begun.Prefix()
		other.SHA256[0]++
		rest.Reset()
		if _, err := d.Send(t.Context(), host.SendOrder{Snapshot: "s", After: other}, &rest); !errors.Is(err, sendstream.ErrPrefixDiffers) || rest.Len() > 0 {
			t.Errorf("behind another prefix: %d bytes, %v", rest.Len(), err)
		}
	})
}

var errFull = errors.New("the writer is full")

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, errFull }

func TestSendingFailsWithItsWriterAndItsProgram(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		home := newSubvolume(t, top, "home")
		check(t, os.WriteFile(home+"/file", bytes.Repeat([]byte("content"), 1_000_000), 0o644))
		snapshot(t, home, top+"/s")
		d := open(t, h, top)
		var write *sendstream.WriteError
		if _, err := d.Send(t.Context(), host.SendOrder{Snapshot: "s"}, fullWriter{}); !errors.As(err, &write) || !errors.Is(err, errFull) {
			t.Errorf("to a full writer: %v", err)
		}
		if _, err := d.Send(t.Context(), host.SendOrder{Snapshot: "missing"}, io.Discard); err == nil || !strings.Contains(err.Error(), "missing") {
			t.Errorf("of nothing: %v", err)
		}
		wantNoProcess(t, top)
	})
}

func TestReceivingRefusesANameThatIsTaken(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		newDir(t, top, "directory")
		newSubvolume(t, top, "subvolume")
		check(t, os.WriteFile(top+"/file", []byte("theirs"), 0o644))
		check(t, os.Symlink("directory", top+"/link"))
		check(t, os.Symlink("nowhere", top+"/dangling"))
		newSubvolume(t, top, btrfs.Incoming("hidden"))
		for name, kind := range map[string]string{
			"directory": "a directory", "subvolume": "another subvolume", "file": "a file", "link": "a symbolic link",
			"dangling": "a symbolic link", "hidden": "another subvolume",
		} {
			_, err := open(t, h, top).Receive(t.Context(), host.ReceiveOrder{Name: name})
			if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), kind) {
				t.Errorf("receiving %s: %v, want that it is %s", name, err, kind)
			}
		}
		wantNames(t, top, ".hidden.incoming", "dangling", "directory", "file", "link", "subvolume")
	})
}

func TestNothingReplacesANameTakenSince(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		home := newSubvolume(t, top, "home")
		folder, copies := newDir(t, top, "folder"), newDir(t, top, "copies")
		snapshot(t, home, folder+"/s")
		var wire int64
		r, _ := transfer(t, open(t, h, folder), open(t, h, copies), host.SendOrder{Snapshot: "s"}, &wire)
		newDir(t, copies, "s")
		if err := r.Commit(t.Context(), info(t, home).UUID); !errors.Is(err, fs.ErrExist) {
			t.Errorf("error: %v", err)
		}
		wantNames(t, copies, ".s.incoming", "s")
		wantNames(t, copies+"/s")
		check(t, r.Abort(t.Context()))
		wantNames(t, copies, "s")
	})
}

// begin receives the first part of a large backup.
func begin(t testing.TB, ctx context.Context, d host.Dir, stream []byte) host.Receiver {
	t.Helper()
	r, err := d.Receive(ctx, host.ReceiveOrder{Name: "s"})
	check(t, err)
	_, err = r.Write(stream[:len(stream)/2])
	check(t, err)
	return r
}

// largeStream is a stream that takes a while.
func largeStream(t testing.TB, top string) []byte {
	t.Helper()
	home := newSubvolume(t, top, "home")
	check(t, os.WriteFile(home+"/file", bytes.Repeat([]byte("content"), 1_000_000), 0o644))
	snapshot(t, home, top+"/snapshot")
	var stream bytes.Buffer
	_, err := open(t, host.NewLocal(silent), top).Send(t.Context(), host.SendOrder{Snapshot: "snapshot"}, &stream)
	check(t, err)
	return stream.Bytes()
}

func TestAbortLeavesNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		stream := largeStream(t, top)
		copies := newDir(t, top, "copies")
		d := open(t, h, copies)
		for _, end := range []string{"abort", "close", "context"} {
			ctx, cancel := context.WithCancel(t.Context())
			r := begin(t, ctx, d, stream)
			switch end {
			case "close":
				if s, err := r.Close(ctx); err == nil && s.ReadOnly {
					t.Errorf("half a stream is %+v", s)
				}
			case "context":
				cancel()
			}
			check(t, r.Abort(t.Context()))
			check(t, r.Abort(t.Context()))
			wantNames(t, copies)
			wantNoProcess(t, copies)
			cancel()
		}
	})
}

func TestAConnectionThatBreaksLeavesNoProcessAndNoBackup(t *testing.T) {
	btrfstest.RequireRoot(t)
	for _, sh := range []string{"dash", "busybox", "bash"} {
		for _, sudo := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, sudo %t", sh, sudo), func(t *testing.T) {
				top := btrfstest.New(t, testSize).Dir
				stream := largeStream(t, top)
				copies := newDir(t, top, "copies")
				server := sshtest.Start(t, sshtest.Options{Shell: shellProgram(sh), Env: []string{
					"PATH=" + remotePath(t, sh, sudo), "HOME=" + t.TempDir()}})
				h := shellAt(t, server, host.ShellOptions{Sudo: sudo})
				d := open(t, h, copies)
				_, err := d.Lock(t.Context(), nil)
				check(t, err)
				r := begin(t, t.Context(), d, stream)
				killConnections(t, server)
				if _, err := r.Close(t.Context()); err == nil {
					t.Error("receiving did not fail")
				}
				if err := r.Commit(t.Context(), btrfs.UUID{1}); err == nil {
					t.Error("committing did not fail")
				}
				wantNoProcess(t, copies)
				if _, err := os.Lstat(copies + "/s"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("under the final name: %v", err)
				}
				l, err := lock.Acquire(t.Context(), btrfstest.Open(t, copies), func(*lock.HeldError) {})
				check(t, err)
				check(t, l.Release())
				check(t, r.Abort(t.Context()))
				wantNames(t, copies)
			})
		}
	}
}

// killConnections kills the processes of sshd that serve connections, and nothing that they started.
func killConnections(t testing.TB, server *sshtest.Server) {
	t.Helper()
	killed := 0
	var kill func(pid string, listens bool)
	kill = func(pid string, listens bool) {
		tasks, _ := filepath.Glob("/proc/" + pid + "/task/*/children") // none when it has ended
		for _, task := range tasks {
			children, _ := os.ReadFile(task)
			for child := range strings.FieldsSeq(string(children)) {
				kill(child, false)
			}
		}
		name, _ := os.ReadFile("/proc/" + pid + "/comm")
		if number, err := strconv.Atoi(pid); err == nil && !listens && strings.HasPrefix(string(name), "sshd") {
			check(t, unix.Kill(number, unix.SIGKILL))
			killed++
		}
	}
	listeners, err := filepath.Glob("/proc/[0-9]*/cmdline")
	check(t, err)
	for _, file := range listeners {
		if line, _ := os.ReadFile(file); bytes.Contains(line, []byte(server.Dir+"/sshd_config")) {
			kill(filepath.Base(filepath.Dir(file)), true)
		}
	}
	if killed == 0 {
		t.Fatal("no process of sshd was found")
	}
}

// wantNoProcess waits until no process has dir among its arguments.
func wantNoProcess(t testing.TB, dir string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		found := ""
		files, err := filepath.Glob("/proc/[0-9]*/cmdline")
		check(t, err)
		for _, file := range files {
			if line, _ := os.ReadFile(file); bytes.Contains(line, []byte(dir)) {
				found = file + ": " + strings.ReplaceAll(string(line), "\x00", " ")
			}
		}
		if found == "" {
			return
		}
		if time.Now().After(end) {
			t.Errorf("a process is left, %s", found)
			return
		}
	}
}

func TestLocksExcludeEachOtherAcrossKinds(t *testing.T) {
	btrfstest.RequireRoot(t)
	dir := newDir(t, btrfstest.New(t, testSize).Dir, "line\nbreak")
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			h := kind.make(t)
			here := host.NewLocal(silent)
			for _, pair := range [][2]host.Dir{
				{open(t, h, dir), open(t, here, dir)}, {open(t, here, dir), open(t, h, dir)}, {open(t, h, dir), open(t, h, dir)},
			} {
				release, err := pair[0].Lock(t.Context(), nil)
				check(t, err)
				var held *lock.HeldError
				if _, err := pair[1].Lock(t.Context(), nil); !errors.As(err, &held) || held.Dir != dir {
					t.Fatalf("locked twice: %v", err)
				}
				waits, locked := make(chan error, 1), make(chan error, 1)
				go func() {
					again, err := pair[1].Lock(t.Context(), func(e *lock.HeldError) { waits <- e })
					if err == nil {
						err = again()
					}
					locked <- err
				}()
				<-waits
				select {
				case err := <-locked:
					t.Fatalf("it did not wait: %v", err)
				default:
				}
				check(t, release())
				check(t, <-locked)

				// the end of the context ends the waiting
				release, err = pair[0].Lock(t.Context(), nil)
				check(t, err)
				ctx, cancel := context.WithCancelCause(t.Context())
				cause := errors.New("the cause")
				if _, err := pair[1].Lock(ctx, func(*lock.HeldError) { cancel(cause) }); !errors.Is(err, cause) {
					t.Errorf("error: %v", err)
				}
				check(t, release())
			}
			l, err := lock.Acquire(t.Context(), btrfstest.Open(t, dir), func(*lock.HeldError) {})
			check(t, err)
			check(t, l.Release())
		})
	}
}
