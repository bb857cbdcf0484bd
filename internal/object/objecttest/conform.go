package objecttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

// Traits are what buckets may differ in.
type Traits struct {
	Versions bool // it keeps what is replaced, and deletes that, too
	NoSums   bool // it does not know the SHA-256 of what it keeps
	NoRaces  bool // it does not notice two who store under one key at the same time
}

// Conform holds an empty bucket against what all buckets promise.
func Conform(t *testing.T, b object.Bucket, traits Traits) {
	for name, test := range map[string]func(*testing.T, object.Bucket, Traits){
		"what was put is read": readsWhatWasPut, "keys are taken once": takesKeysOnce, "one of many wins": oneWins,
		"listings": lists, "many objects": listsMany, "deletions": deletes, "names": refusesNames, "contexts": endsWithContexts,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, b, traits)
			check(t, b.Delete(context.Background(), keys(t, b, "")))
			if left := keys(t, b, ""); len(left) > 0 {
				t.Errorf("after all was deleted there are %q", left)
			}
		})
	}
}

// Content gives bytes that cannot be compressed, the same for the same numbers.
func Content(seed uint64, size int) []byte {
	content := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(content) // it cannot fail
	return content
}

func keys(t testing.TB, b object.Bucket, prefix string) (all []string) {
	t.Helper()
	check(t, b.List(context.Background(), prefix, func(info object.Info) error {
		all = append(all, info.Key)
		return nil
	}))
	return all
}

func put(t testing.TB, b object.Bucket, key string, content []byte) {
	t.Helper()
	check(t, b.Put(context.Background(), key, content, object.PutOptions{}))
}

func readsWhatWasPut(t *testing.T, b object.Bucket, traits Traits) {
	ctx := context.Background()
	for key, size := range map[string]int{"empty": 0, "one": 1, "folder/some": 100_000, "folder/much": 6 << 20, "folder/a b+c%d&é": 3} {
		content := Content(uint64(size), size)
		put(t, b, key, content)
		for _, span := range [][2]int64{{0, -1}, {0, 0}, {0, 1}, {1, -1}, {int64(size) / 3, int64(size) / 3}, {int64(size), -1}, {0, int64(size) + 5}, {int64(size) + 1, 2}} {
			begin := min(span[0], int64(size))
			end := int64(size)
			if span[1] >= 0 {
				end = min(begin+span[1], end)
			}
			body, err := b.Get(ctx, object.Ref{Key: key}, span[0], span[1])
			if err != nil {
				t.Fatalf("%s %v: %v", key, span, err)
			}
			got, err := io.ReadAll(body)
			check(t, errors.Join(err, body.Close()))
			if !bytes.Equal(got, content[begin:end]) {
				t.Errorf("%s %v: read %d bytes that are not the %d that were put", key, span, len(got), end-begin)
			}
		}
		info, err := b.Stat(ctx, object.Ref{Key: key})
		check(t, err)
		sum := sha256.Sum256(content)
		if info.Key != key || info.Size != int64(size) || !traits.NoSums && !bytes.Equal(info.SHA256, sum[:]) || info.Modified.IsZero() || info.Archived {
			t.Errorf("%s of %d bytes with sum %x: %+v", key, size, sum, info)
		}
	}
	missing := object.Ref{Key: "folder/missing"}
	_, readErr := b.Get(ctx, missing, 0, -1)
	_, statErr := b.Stat(ctx, missing)
	for _, err := range []error{readErr, statErr} {
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing.Key) {
			t.Errorf("a missing object: %v", err)
		}
	}
}

func takesKeysOnce(t *testing.T, b object.Bucket, traits Traits) {
	ctx, key := context.Background(), "folder/key"
	put(t, b, key, []byte("first"))
	err := b.Put(ctx, key, []byte("second"), object.PutOptions{})
	if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), key) {
		t.Errorf("a second object under a key: %v", err)
	}
	expect(t, b, object.Ref{Key: key}, "first")
	check(t, b.Put(ctx, key, []byte("third"), object.PutOptions{Replace: true}))
	expect(t, b, object.Ref{Key: key}, "third")
	check(t, b.List(ctx, "folder/", func(info object.Info) error {
		if traits.Versions {
			expect(t, b, info.Ref, "first") // the oldest is the one that counts
		}
		if traits.Versions && info.Versions != 2 {
			t.Errorf("%d versions, not 2", info.Versions)
		}
		return nil
	}))
	check(t, b.Put(ctx, "folder/new", []byte("new"), object.PutOptions{Replace: true}))
	expect(t, b, object.Ref{Key: "folder/new"}, "new")
}

func expect(t testing.TB, b object.Bucket, r object.Ref, want string) {
	t.Helper()
	got, err := object.Read(context.Background(), b, r)
	check(t, err)
	if string(got) != want {
		t.Errorf("%v holds %q, not %q", r, got, want)
	}
}

func oneWins(t *testing.T, b object.Bucket, traits Traits) {
	if traits.NoRaces {
		return
	}
	const many = 8
	var wait sync.WaitGroup
	errs := make([]error, many)
	for i := range many {
		wait.Go(func() {
			errs[i] = b.Put(context.Background(), "race", fmt.Appendf(nil, "%d", i), object.PutOptions{})
		})
	}
	wait.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("both %d and %d stored it", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, fs.ErrExist):
			t.Error(err)
		}
	}
	expect(t, b, object.Ref{Key: "race"}, fmt.Sprint(winner))
}

func lists(t *testing.T, b object.Bucket, _ Traits) {
	all := []string{"a-b", "a.b", "a/b-c/d", "a/b.c", "a/b/c", "a0", "ab/c", "b/é", "b/😀", "c c/d+e", "c%20c"}
	for i, key := range slices.Backward(all) {
		put(t, b, key, Content(1, i))
	}
	slices.Sort(all)
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "ab/c", "b/é", "c c/", "x", "a/b/c/d"} {
		want := slices.DeleteFunc(slices.Clone(all), func(key string) bool { return !strings.HasPrefix(key, prefix) })
		if got := keys(t, b, prefix); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", prefix, got, want)
		}
	}
	seen := 0
	stop := errors.New("enough")
	if err := b.List(context.Background(), "", func(object.Info) error { seen++; return stop }); err != stop || seen != 1 {
		t.Errorf("visited %d, and then %v", seen, err)
	}
}

func listsMany(t *testing.T, b object.Bucket, _ Traits) {
	const many = 2345
	var want []string
	var wait sync.WaitGroup
	for worker := range 8 {
		wait.Go(func() {
			for i := worker; i < many; i += 8 {
				put(t, b, fmt.Sprintf("many/%04d", i), nil)
			}
		})
	}
	for i := range many {
		want = append(want, fmt.Sprintf("many/%04d", i))
	}
	wait.Wait()
	if got := keys(t, b, "many/"); !slices.Equal(got, want) {
		t.Errorf("listed %d of %d", len(got), many)
	}
	check(t, b.Delete(context.Background(), want[:many-1]))
	if got := keys(t, b, ""); !slices.Equal(got, want[many-1:]) {
		t.Errorf("left are %q", got)
	}
}

func deletes(t *testing.T, b object.Bucket, _ Traits) {
	ctx := context.Background()
	for _, key := range []string{"x/1", "x/10", "x/y/1", "z"} {
		put(t, b, key, []byte(key))
	}
	check(t, b.Put(ctx, "x/1", []byte("again"), object.PutOptions{Replace: true}))
	for range 2 {
		check(t, b.Delete(ctx, []string{"x/1", "x/y/1", "missing", "x/missing"}))
		if got := keys(t, b, ""); !slices.Equal(got, []string{"x/10", "z"}) {
			t.Errorf("left are %q", got)
		}
		if _, err := b.Stat(ctx, object.Ref{Key: "x/1"}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what was deleted: %v", err)
		}
	}
	check(t, b.Delete(ctx, nil))
	put(t, b, "x/1", []byte("new"))
	expect(t, b, object.Ref{Key: "x/1"}, "new")
}

func refusesNames(t *testing.T, b object.Bucket, _ Traits) {
	ctx := context.Background()
	for _, key := range []string{"", "/", "..", "../x", "a/../../x", "/etc/x", "a//b", "a/", "./a", ".hidden", "a/.b", "a\\b", "a\x00b", "a\nb"} {
		_, readErr := b.Get(ctx, object.Ref{Key: key}, 0, -1)
		_, statErr := b.Stat(ctx, object.Ref{Key: key})
		for doing, err := range map[string]error{"put": b.Put(ctx, key, []byte("x"), object.PutOptions{}), "get": readErr, "stat": statErr,
			"delete": b.Delete(ctx, []string{key})} {
			if err == nil {
				t.Errorf("%s of %q is not refused", doing, key)
			}
		}
	}
	if got := keys(t, b, ""); len(got) > 0 {
		t.Errorf("there are %q", got)
	}
}

func endsWithContexts(t *testing.T, b object.Bucket, _ Traits) {
	put(t, b, "there", []byte("content"))
	why := errors.New("the user had enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	if err := b.List(ctx, "", func(object.Info) error { return nil }); !errors.Is(err, why) {
		t.Errorf("list: %v", err)
	}
}
