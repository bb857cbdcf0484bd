package host_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/agent"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// eachBucket runs a test on a folder of this machine, and on one that is reached through a real sshd.
func eachBucket(t *testing.T, test func(t *testing.T, b object.Bucket, folder string)) {
	for name, h := range map[string]host.Host{"local": local.New(silent), "agent": newAgent(t)} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "new", "store")
			if _, _, err := host.Bucket(t.Context(), h, folder); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("a missing folder is opened: %v", err)
			}
			check(t, h.MkdirAll(t.Context(), folder))
			test(t, openBucket(t, h, folder), folder)
		})
	}
}

func openBucket(t testing.TB, h host.Host, folder string) object.Bucket {
	t.Helper()
	b, closer, err := host.Bucket(t.Context(), h, folder)
	check(t, err)
	t.Cleanup(func() { check(t, closer.Close()) })
	if b.String() != h.String()+folder {
		t.Errorf("it is called %s", b)
	}
	return b
}

func noise(size int) []byte { return objecttest.Content(uint64(size), size) }

func get(t testing.TB, b object.Bucket, key string, offset, length int64) []byte {
	t.Helper()
	body, err := b.Get(t.Context(), object.Ref{Key: key}, offset, length)
	check(t, err)
	defer body.Close()
	content, err := io.ReadAll(body)
	check(t, err)
	return content
}

func keys(t testing.TB, b object.Bucket, prefix string) (found []string) {
	t.Helper()
	check(t, b.List(t.Context(), prefix, func(i object.Info) error {
		found = append(found, i.Key)
		return nil
	}))
	return found
}

// leftovers are files of objects that are not complete.
func leftovers(t testing.TB, folder string) (found []string) {
	t.Helper()
	check(t, filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Name()[0] == '.' {
			found = append(found, path)
		}
		return err
	}))
	return found
}

func TestAFolderOfAnyMachineIsABucket(t *testing.T) {
	eachBucket(t, func(t *testing.T, b object.Bucket, _ string) { objecttest.Conform(t, b, objecttest.Traits{}) })
}

func TestADirectoryIsNotRemovedUnderWhatIsStoredInIt(t *testing.T) {
	eachBucket(t, func(t *testing.T, b object.Bucket, folder string) {
		check(t, os.MkdirAll(folder+"/a/b", 0o755))
		check(t, os.WriteFile(folder+"/a/b/.incoming-of-a-killed-one", nil, 0o600))
		stop := make(chan struct{})
		var deleting sync.WaitGroup
		for i := range 2 {
			deleting.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					key := fmt.Sprintf("a/b/gone%d", i)
					if err := errors.Join(b.Put(t.Context(), key, nil, object.PutOptions{}), b.Delete(t.Context(), []string{key})); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for i := range 20 {
			key := "a/b/c"
			if i%2 == 0 {
				key = "a/b/d/e"
			}
			check(t, b.Put(t.Context(), key, noise(3<<20), object.PutOptions{}))
			check(t, b.Delete(t.Context(), []string{key}))
		}
		close(stop)
		deleting.Wait()
		if entries, err := os.ReadDir(folder); err != nil || len(entries) > 0 {
			t.Errorf("left are %v, %v", entries, err)
		}
	})
}

func TestObjectsOfEachSizeComeBack(t *testing.T) {
	eachBucket(t, func(t *testing.T, b object.Bucket, folder string) {
		sizes := []int{0, 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5 << 20}
		if btrfstest.All() {
			sizes = append(sizes, 16<<20, 100<<20)
		}
		for _, size := range sizes {
			key, content := fmt.Sprintf("backups/source/name/data.%09d", size), noise(size)
			check(t, b.Put(t.Context(), key, content, object.PutOptions{}))
			onDisk, err := os.ReadFile(filepath.Join(folder, key))
			check(t, err)
			if !bytes.Equal(onDisk, content) || !bytes.Equal(get(t, b, key, 0, -1), content) {
				t.Errorf("%d bytes do not come back", size)
			}
			info, err := b.Stat(t.Context(), object.Ref{Key: key})
			check(t, err)
			if sum := sha256.Sum256(content); info.Size != int64(size) || !bytes.Equal(info.SHA256, sum[:]) || info.Key != key || time.Since(info.Modified) > time.Hour {
				t.Errorf("it is %+v", info)
			}
			n := int64(size)
			for _, r := range [][2]int64{{0, 0}, {0, 1}, {n / 2, n}, {n / 3, n / 3}, {n - 1, 1}, {n, 5}, {n + 7, -1}, {n / 2, -1}} {
				from := min(max(0, r[0]), n)
				to := n
				if r[1] >= 0 {
					to = min(n, from+r[1])
				}
				if r[0] >= 0 && !bytes.Equal(get(t, b, key, r[0], r[1]), content[from:to]) {
					t.Errorf("%d bytes at %d of %d are others", r[1], r[0], n)
				}
			}
		}
		if left := leftovers(t, folder); left != nil {
			t.Errorf("left are %q", left)
		}
	})
}

func TestObjectsAreListedInOrderAndInPages(t *testing.T) {
	eachBucket(t, func(t *testing.T, b object.Bucket, folder string) {
		want := []string{"a-b/x", "a/b", "a/b-c", "a/b.c/d", "a.b", "a0", "format"}
		slices.Sort(want)
		for _, key := range want {
			check(t, b.Put(t.Context(), key, []byte(key), object.PutOptions{}))
		}
		const many = 5_200
		for i := range many { // more than a page
			dir := fmt.Sprintf("%s/many/%d", folder, i/1000)
			check(t, os.MkdirAll(dir, 0o755))
			key := fmt.Sprintf("many/%d/%d", i/1000, i)
			check(t, os.WriteFile(filepath.Join(folder, key), nil, 0o600))
			want = append(want, key)
		}
		slices.Sort(want)
		if found := keys(t, b, ""); !slices.Equal(found, want) {
			t.Errorf("%d are listed of %d, or in another order", len(found), len(want))
		}
		for prefix, n := range map[string]int{"a": 6, "a/": 3, "a/b": 3, "a/b.": 1, "a/b.c/d": 1, "a/b.c/d/": 0, "x": 0, "many/3": 1000, "many/3/": 1000, "many/5": 200} {
			if found := keys(t, b, prefix); len(found) != n {
				t.Errorf("%d with %q, want %d", len(found), prefix, n)
			}
		}
		enough := errors.New("enough")
		n := 0
		err := b.List(t.Context(), "", func(i object.Info) error {
			if i.Size != 0 && get(t, b, i.Key, 0, -1) == nil { // while it lists
				t.Errorf("%s is not read", i.Key)
			}
			if n++; n == 5100 {
				return enough
			}
			return nil
		})
		if err != enough || n != 5100 {
			t.Errorf("after %d: %v", n, err)
		}
	})
}

func TestAnObjectIsReplacedOnPurposeOnly(t *testing.T) {
	eachBucket(t, func(t *testing.T, b object.Bucket, folder string) {
		for _, size := range []int{5, 3 << 20} {
			key, first, second := fmt.Sprintf("index/%d", size), noise(size), noise(size+1)
			check(t, b.Put(t.Context(), key, first, object.PutOptions{}))
			for _, content := range [][]byte{first, second} {
				if err := b.Put(t.Context(), key, content, object.PutOptions{}); !errors.Is(err, fs.ErrExist) {
					t.Errorf("a second one: %v", err)
				}
			}
			if !bytes.Equal(get(t, b, key, 0, -1), first) {
				t.Error("the first one has gone")
			}
			check(t, b.Put(t.Context(), key, second, object.PutOptions{Replace: true}))
			if !bytes.Equal(get(t, b, key, 0, -1), second) {
				t.Error("it was not replaced")
			}
		}
		var stored sync.WaitGroup
		made := make(chan int, 8)
		for i := range 8 {
			stored.Go(func() {
				if err := b.Put(t.Context(), "format", noise(2<<20+i), object.PutOptions{}); err == nil {
					made <- i
				} else if !errors.Is(err, fs.ErrExist) {
					t.Error(err)
				}
			})
		}
		stored.Wait()
		if close(made); len(made) != 1 {
			t.Errorf("%d of 8 got the key", len(made))
		} else if i := <-made; !bytes.Equal(get(t, b, "format", 0, -1), noise(2<<20+i)) {
			t.Error("another one got the key than the one that was told so")
		}
		if left := leftovers(t, folder); left != nil {
			t.Errorf("left are %q", left)
		}
	})
}

func TestWhatIsReadIsOneObject(t *testing.T) {
	eachBucket(t, func(t *testing.T, b object.Bucket, _ string) {
		first, second := noise(8<<20), noise(8<<20+1)
		check(t, b.Put(t.Context(), "index/x", first, object.PutOptions{}))
		body, err := b.Get(t.Context(), object.Ref{Key: "index/x"}, 0, -1)
		check(t, err)
		defer body.Close()
		start := make([]byte, 10)
		_, err = io.ReadFull(body, start)
		check(t, err)
		check(t, b.Put(t.Context(), "index/x", second, object.PutOptions{Replace: true}))
		rest, err := io.ReadAll(body)
		if err == nil && !bytes.Equal(append(start, rest...), first) {
			t.Error("what was read is of two objects")
		}
	})
}

func TestDeletedObjectsAreGone(t *testing.T) {
	eachBucket(t, func(t *testing.T, b object.Bucket, folder string) {
		for _, key := range []string{"backups/s/n/data.0000", "backups/s/n/manifest", "backups/s/kept"} {
			check(t, b.Put(t.Context(), key, []byte(key), object.PutOptions{}))
		}
		gone := []string{"backups/s/n/manifest", "backups/s/n/data.0000", "backups/s/n/never"}
		check(t, b.Delete(t.Context(), gone))
		check(t, b.Delete(t.Context(), gone))
		check(t, b.Delete(t.Context(), nil))
		if found := keys(t, b, ""); !slices.Equal(found, []string{"backups/s/kept"}) {
			t.Errorf("left are %q", found)
		}
		if _, err := os.Stat(folder + "/backups/s/n"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the directory is left: %v", err)
		}
		if err := b.Delete(t.Context(), []string{"../x", "backups/s/kept"}); err == nil {
			t.Error("what is no key is deleted")
		}
		if found := keys(t, b, ""); found != nil {
			t.Errorf("left are %q", found)
		}
		for _, err := range []error{
			func() error { _, err := b.Stat(t.Context(), object.Ref{Key: gone[0]}); return err }(),
			func() error { _, err := b.Get(t.Context(), object.Ref{Key: gone[0]}, 0, -1); return err }(),
		} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a missing one: %v", err)
			}
		}
	})
}

func TestNoKeyAndNoLinkLeadsOutOfAFolderOfObjects(t *testing.T) {
	eachBucket(t, func(t *testing.T, b object.Bucket, folder string) {
		outside := filepath.Dir(folder)
		check(t, os.WriteFile(outside+"/secret", []byte("secret"), 0o600))
		check(t, os.Symlink("..", folder+"/up"))
		check(t, os.Symlink(outside, folder+"/out"))
		check(t, os.Symlink("../secret", folder+"/link"))
		before, err := os.ReadDir(outside)
		check(t, err)
		for _, key := range []string{"", ".", "..", "/", "../secret", "a/../../secret", "/etc/passwd", outside + "/secret", "up/secret", "out/secret", "link",
			"up/new", "out/new", "a//b", "a/", ".hidden", "a/.hidden", "a\x00b", "a\nb", `a\b`} {
			if body, err := b.Get(t.Context(), object.Ref{Key: key}, 0, -1); err == nil {
				body.Close()
				t.Errorf("%q is read", key)
			}
			if _, err := b.Stat(t.Context(), object.Ref{Key: key}); err == nil {
				t.Errorf("%q is looked at", key)
			}
			if err := b.Put(t.Context(), key, []byte("x"), object.PutOptions{}); err == nil {
				t.Errorf("%q is stored", key)
			}
			if key != "link" { // which is replaced itself
				if err := b.Put(t.Context(), key, noise(2<<20), object.PutOptions{Replace: true}); err == nil {
					t.Errorf("%q is replaced", key)
				}
				_ = b.Delete(t.Context(), []string{key})
			}
		}
		if found := keys(t, b, ""); found != nil {
			t.Errorf("%q are listed", found)
		}
		if after, err := os.ReadDir(outside); err != nil || len(after) != len(before) {
			t.Errorf("outside are %v, %v", after, err)
		}
		if content, err := os.ReadFile(outside + "/secret"); err != nil || string(content) != "secret" {
			t.Errorf("outside is %q, %v", content, err)
		}
	})
}

func TestACancelledTransferLeavesNothing(t *testing.T) {
	eachBucket(t, func(t *testing.T, b object.Bucket, folder string) {
		content := noise(20 << 20)
		check(t, b.Put(t.Context(), "whole", content, object.PutOptions{}))
		cause := errors.New("no more of that")
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan struct{})
		go func() {
			for begun := false; !begun; time.Sleep(time.Millisecond) {
				hidden, _ := filepath.Glob(folder + "/.*")
				select {
				case <-ended:
					begun = true
				default:
					begun = len(hidden) > 0
				}
			}
			cancel(cause)
		}()
		err := b.Put(ctx, "part", content, object.PutOptions{})
		close(ended)
		if err != nil && !errors.Is(err, cause) {
			t.Errorf("it ended with %v", err)
		}
		for end := time.Now().Add(5 * time.Minute); leftovers(t, folder) != nil && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		if left, found := leftovers(t, folder), keys(t, b, "part"); left != nil || err != nil && found != nil {
			t.Errorf("left are %q and %q", left, found)
		}
		body, err := b.Get(t.Context(), object.Ref{Key: "whole"}, 0, -1)
		check(t, err)
		check(t, body.Close())
		if _, err := body.Read(make([]byte, 1)); err == nil {
			t.Error("what is closed is read")
		}
	})
}

// newDisturbed is newAgent with a proxy between.
func newDisturbed(t *testing.T, window time.Duration) (*agent.Host, *sshtest.Proxy) {
	t.Helper()
	server := newAgentServer(t)
	proxy := sshtest.NewProxy(t, server.Addr())
	key, err := os.ReadFile(server.HostKey + ".pub")
	check(t, err)
	check(t, os.WriteFile(server.KnownHosts, []byte("it "+string(key)), 0o600))
	target := ssh.Target{User: server.User, Host: server.Host, Port: proxy.Port()}
	machine := ssh.New(target, ssh.Options{Options: append(server.Options(), "HostKeyAlias=it"), Log: silent})
	a := agent.New(machine, agent.Options{Log: silent, Version: "test", Channels: 1, Compression: wire.Auto, ResumeWindow: window})
	t.Cleanup(func() { _ = a.Close() })
	return a, proxy
}

// cutAfter breaks the connection when so many bytes more have passed.
func cutAfter(t *testing.T, proxy *sshtest.Proxy, bytes int64) (cut chan struct{}) {
	cut = make(chan struct{})
	end := proxy.Up.Load() + proxy.Down.Load() + bytes
	go func() {
		defer close(cut)
		for proxy.Up.Load()+proxy.Down.Load() < end {
			select {
			case <-time.After(100 * time.Microsecond):
			case <-t.Context().Done():
				return
			}
		}
		proxy.Cut()
	}()
	return cut
}

func TestObjectsArriveOverConnectionsThatBreak(t *testing.T) {
	a, proxy := newDisturbed(t, time.Minute)
	folder := t.TempDir()
	b := openBucket(t, a, folder)
	content := noise(6 << 20)
	for i, at := range []int64{1, 1 << 20, 3 << 20, 5 << 20} {
		key := fmt.Sprintf("backups/s/n/data.%04d", i)
		cut := cutAfter(t, proxy, at)
		check(t, b.Put(t.Context(), key, content, object.PutOptions{}))
		<-cut
		cut = cutAfter(t, proxy, at)
		if !bytes.Equal(get(t, b, key, 0, -1), content) {
			t.Errorf("%s is another", key)
		}
		<-cut
		if err := b.Put(t.Context(), key, content, object.PutOptions{}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a second one: %v", err)
		}
	}
	if found := keys(t, b, ""); len(found) != 4 {
		t.Errorf("there are %q", found)
	}
	for end := time.Now().Add(5 * time.Minute); leftovers(t, folder) != nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if left := leftovers(t, folder); left != nil {
		t.Errorf("left are %q", left)
	}
}

func TestAnObjectWhoseReplyIsLostIsThere(t *testing.T) {
	a, proxy := newDisturbed(t, time.Minute)
	folder := t.TempDir()
	b := openBucket(t, a, folder)
	const delay = 200 * time.Millisecond
	for _, size := range []int{10, 3 << 20} {
		key := fmt.Sprintf("data.%d", size)
		cut := make(chan struct{})
		proxy.Delay(delay)
		go func() {
			defer close(cut)
			for t.Context().Err() == nil {
				if _, err := os.Stat(filepath.Join(folder, key)); err == nil {
					break // the reply is on its way
				}
				time.Sleep(time.Millisecond)
			}
			proxy.Cut()
			proxy.Delay(0)
		}()
		check(t, b.Put(t.Context(), key, noise(size), object.PutOptions{}))
		<-cut
		if !bytes.Equal(get(t, b, key, 0, -1), noise(size)) {
			t.Errorf("%s is another", key)
		}
	}
}

func TestAMachineThatIsLostEndsTransfersOfObjects(t *testing.T) {
	a, proxy := newDisturbed(t, time.Second)
	b := openBucket(t, a, t.TempDir())
	content := noise(6 << 20)
	check(t, b.Put(t.Context(), "whole", content, object.PutOptions{}))
	body, err := b.Get(t.Context(), object.Ref{Key: "whole"}, 0, -1)
	check(t, err)
	proxy.Refuse(true)
	proxy.Cut()
	_, getErr := io.ReadAll(body)
	check(t, body.Close())
	for _, err := range []error{getErr, b.Put(t.Context(), "part", content, object.PutOptions{}), b.Delete(t.Context(), []string{"whole"}), b.List(t.Context(), "", nil)} {
		if !errors.Is(err, transport.ErrUnreachable) && !errors.Is(err, transport.ErrDisconnected) {
			t.Errorf("it ended with %v", err)
		}
	}
}

func TestObjectsTravelAtTheSameTime(t *testing.T) {
	a, proxy := newDisturbed(t, time.Minute)
	b := openBucket(t, a, t.TempDir())
	check(t, b.Put(t.Context(), "format", nil, object.PutOptions{}))
	store := func(name string, n int) time.Duration {
		began := time.Now()
		var stored sync.WaitGroup
		for i := range n {
			stored.Go(func() {
				if err := b.Put(t.Context(), fmt.Sprintf("%s/%d", name, i), noise(10_000), object.PutOptions{}); err != nil {
					t.Error(err)
				}
			})
		}
		stored.Wait()
		return time.Since(began)
	}
	for trip := 100 * time.Millisecond; ; trip *= 4 { // until it is long for a machine that is held up
		proxy.Delay(trip / 2)
		four, eight := store(fmt.Sprint("four", trip), 4), store(fmt.Sprint("eight", trip), 8)
		if four <= 3*trip && eight <= 4*trip {
			break
		}
		if trip > 20*time.Second {
			t.Fatalf("four took %s and eight %s where a round trip takes %s", four, eight, trip)
		}
	}
}

func TestBackupsAreStoredWithAKeyThatMayOnlyAdd(t *testing.T) {
	root := t.TempDir()
	check(t, os.Chmod(root, 0o700))
	t.Setenv(testOnlyLimit, root)
	h := newAgent(t)
	folder := root + "/laptop/store"
	check(t, h.MkdirAll(t.Context(), folder))
	b := openBucket(t, h, folder)
	all := []string{"backups/s/n.12345678/data.000000", "backups/s/n.12345678/manifest", "canary", "format", "index/s"}
	for _, key := range []string{"canary", "format", all[0], all[1], "index/s"} {
		check(t, b.Put(t.Context(), key, noise(3<<20), object.PutOptions{Replace: key == "index/s"}))
	}
	if found := keys(t, b, ""); !slices.Equal(found, all) {
		t.Errorf("there are %q", found)
	}
	check(t, b.Put(t.Context(), "index/s", noise(10), object.PutOptions{Replace: true}))
	if !bytes.Equal(get(t, b, all[1], 0, -1), noise(3<<20)) {
		t.Error("the manifest is another")
	}
	_, getErr := b.Get(t.Context(), object.Ref{Key: all[0]}, 0, -1)
	for doing, err := range map[string]error{"deleting": b.Delete(t.Context(), all[:1]), "replacing": b.Put(t.Context(), all[0], nil, object.PutOptions{Replace: true}), "reading": getErr} {
		if !errors.Is(err, fs.ErrPermission) || hint.Of(err) == "" {
			t.Errorf("%s: %v", doing, err)
		}
	}
	if _, _, err := host.Bucket(t.Context(), h, filepath.Dir(root)); err == nil {
		t.Error("a folder outside is opened")
	}
}
