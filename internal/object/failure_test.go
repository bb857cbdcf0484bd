package object_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

var ctx = context.Background()

// operations does everything once with a bucket, and gives what failed.
func operations(b object.Bucket) map[string]error {
	_, statErr := b.Stat(ctx, object.Ref{Key: "there"})
	_, readErr := object.Read(ctx, b, object.Ref{Key: "there"})
	return map[string]error{
		"listing": b.List(ctx, "", func(object.Info) error { return nil }), "reading": readErr, "looking": statErr,
		"storing": b.Put(ctx, "new", []byte("new"), object.PutOptions{}), "replacing": b.Put(ctx, "there", []byte("x"), object.PutOptions{Replace: true}),
		"deleting": b.Delete(ctx, []string{"there"}),
	}
}

// expectAll wants every operation to fail with an error of a kind, with a text and a hint.
func expectAll(t *testing.T, b object.Bucket, kind error, text, way string) {
	t.Helper()
	for doing, err := range operations(b) {
		if err == nil || kind != nil && !errors.Is(err, kind) || !strings.Contains(err.Error(), text) || !strings.Contains(hint.Of(err), way) ||
			!strings.Contains(err.Error(), b.String()) {
			t.Errorf("%s: %v; hint: %s", doing, err, hint.Of(err))
		}
	}
}

func fill(t testing.TB, b object.Bucket, contents map[string]string) {
	t.Helper()
	for key, content := range contents {
		if err := b.Put(ctx, key, []byte(content), object.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// impatient tries again for a second only. It waits for what is silent.
func impatient(o *object.S3Options) { o.Patience = time.Second }

func TestAServerThatIsDownIsUnreachable(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	b := open(t, s.Bucket(t, "backups"), impatient)
	fill(t, b, map[string]string{"there": "there"})
	s.Stop()
	expectAll(t, b, transport.ErrUnreachable, "", "")
	closed := open(t, "s3://127.0.0.1:1/backups", impatient)
	expectAll(t, closed, transport.ErrUnreachable, "127.0.0.1:1 refuses connections", "")

	patient := open(t, s.Place("backups"), nil)
	done := make(chan error)
	go func() { done <- patient.Put(ctx, "later", []byte("later"), object.PutOptions{}) }()
	time.Sleep(time.Second)
	s.Run(t)
	if err := <-done; err != nil {
		t.Errorf("with the server back: %v", err)
	}
}

func TestWhatMayHelpIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, f := range []objecttest.Fault{
		{Status: 503, Code: "SlowDown"}, {Status: 500, Code: "InternalError"}, {Status: 429, Code: "TooManyRequests"}, {Status: 502},
		{Cut: true}, {Lose: true}, {Hang: true},
	} {
		t.Run(fmt.Sprintf("%+v", f), func(t *testing.T) {
			t.Parallel()
			s := objecttest.Start(t, objecttest.Options{Versions: true})
			b := open(t, s.VersionedBucket(t, "backups"), func(o *object.S3Options) { o.Patience, o.Silence = 5*time.Minute, 500*time.Millisecond })
			fill(t, b, map[string]string{"there": "there"})
			for _, kind := range []string{"LIST", "GET", "HEAD", "PUT", "DELETE"} {
				f.Match, f.Times = objecttest.Of(kind), 2
				s.Fail(f)
			}
			for doing, err := range operations(b) {
				if err != nil {
					t.Errorf("%s: %v", doing, err)
				}
			}
			s.Heal()
			if got, err := object.Read(ctx, b, object.Ref{Key: "new"}); err != nil || string(got) != "new" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestAServerThatCannotIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	place := s.Bucket(t, "backups")
	b := open(t, place, impatient)
	fill(t, b, map[string]string{"there": "there"})
	hasty := open(t, place, func(o *object.S3Options) { o.Patience, o.Silence = time.Second, time.Second })
	for text, f := range map[string]objecttest.Fault{
		"(SlowDown: ": {Status: 503, Code: "SlowDown"}, "(InternalError: ": {Status: 500, Code: "InternalError"}, "closed the connection": {Cut: true},
		"does not answer": {Hang: true},
	} {
		s.Fail(f)
		b, began := b, time.Now()
		if f.Hang {
			b = hasty
		}
		err := b.Put(ctx, "new", []byte("new"), object.PutOptions{})
		if !errors.Is(err, transport.ErrUnreachable) || f.Status > 0 && !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v", f, err)
		}
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("%+v: took %s", f, took)
		}
		s.Heal()
	}
}

func TestAServerIsLeftAloneForAsLongAsItWants(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	b := open(t, s.Bucket(t, "backups"), nil)
	s.Fail(objecttest.Fault{Match: objecttest.Of("LIST"), Times: 1, Status: 503, Code: "SlowDown", RetryAfter: "2"})
	began := time.Now()
	if err := b.List(ctx, "", func(object.Info) error { return nil }); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("tried again after %s", took)
	}
}

func TestAContextEndsWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	b := open(t, s.Bucket(t, "backups"), func(o *object.S3Options) { o.Patience = time.Hour })
	why := errors.New("the user had enough")
	for _, f := range []objecttest.Fault{{Status: 503, Code: "SlowDown", RetryAfter: "1000"}, {Hang: true}} {
		s.Fail(f)
		ending, cancel := context.WithCancelCause(ctx)
		time.AfterFunc(300*time.Millisecond, func() { cancel(why) })
		began := time.Now()
		err := b.Put(ending, "new", []byte("new"), object.PutOptions{})
		if took := time.Since(began); !errors.Is(err, why) || took > 2*time.Minute {
			t.Errorf("%+v: %v after %s", f, err, took)
		}
		s.Heal()
	}
}

func TestAnUploadWhoseAnswerWasLostIsNoSecondObject(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{Versions: true})
	b := open(t, s.VersionedBucket(t, "backups"), nil)
	fill(t, b, map[string]string{"first": "first", "taken": "by another"})
	for key, want := range map[string]error{"new": nil, "taken": fs.ErrExist} {
		s.Fail(objecttest.Fault{Match: objecttest.Of("PUT"), Times: 1, Lose: true})
		if err := b.Put(ctx, key, []byte("same length"[:10]), object.PutOptions{}); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v", key, err)
		}
		s.Heal()
	}
	err := b.List(ctx, "", func(info object.Info) error {
		if info.Versions != 1 {
			t.Errorf("%d versions of %s", info.Versions, info.Key)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestWhatIsReadGoesOnWhereItBroke(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	b := open(t, s.Bucket(t, "backups"), nil)
	content := objecttest.Content(1, 3<<20)
	if err := b.Put(ctx, "much", content, object.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.Fail(objecttest.Fault{Match: objecttest.Of("GET"), Times: 1, Short: 1 << 19})
	}
	s.Counts()
	got, err := object.Read(ctx, b, object.Ref{Key: "much"})
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if counts := s.Counts(); counts["GET"] != 4 {
		t.Errorf("%v", counts)
	}
}

func TestAnObjectThatIsReplacedMeanwhileIsNotMixed(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	b := open(t, s.Bucket(t, "backups"), impatient)
	if err := b.Put(ctx, "much", objecttest.Content(1, 3<<20), object.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	s.Fail(objecttest.Fault{Match: objecttest.Of("GET"), Times: 1, Short: 1 << 20})
	body, err := b.Get(ctx, object.Ref{Key: "much"}, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if err := b.Put(ctx, "much", objecttest.Content(2, 3<<20), object.PutOptions{Replace: true}); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := got.ReadFrom(body); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("read %d bytes, %v", got.Len(), err)
	}
}

func TestAListingThatBreaksIsCompleteInTheEnd(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{Versions: true})
	b := open(t, s.VersionedBucket(t, "backups"), nil)
	var want []string
	for i := range 2100 {
		want = append(want, fmt.Sprintf("%04d", i))
	}
	for _, key := range want { // as the server keeps them
		if err := os.WriteFile(filepath.Join(s.Folder, "backups", key), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list := func() (got []string) {
		err := b.List(ctx, "", func(info object.Info) error { got = append(got, info.Key); return nil })
		if err != nil {
			t.Error(err)
		}
		return got
	}
	s.Counts()
	if got := list(); !slices.Equal(got, want) || s.Counts()["LIST"] != 3 {
		t.Errorf("listed %d", len(got))
	}
	s.Fail(objecttest.Fault{Match: objecttest.Of("LIST"), Times: 1, Skip: 1, Status: 503, Code: "SlowDown"})
	s.Fail(objecttest.Fault{Match: objecttest.Of("LIST"), Times: 1, Short: 50_000})
	if got := list(); !slices.Equal(got, want) {
		t.Errorf("listed %d", len(got))
	}
}

func TestWhatIsDamagedOnTheWayIsRefused(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	b := open(t, s.Bucket(t, "backups"), nil)
	s.Fail(objecttest.Fault{Match: objecttest.Of("PUT"), Damage: true})
	err := b.Put(ctx, "new", []byte("new"), object.PutOptions{})
	if !errors.Is(err, object.ErrBadContent) {
		t.Errorf("always damaged: %v", err)
	}
	s.Heal()
	if _, err := b.Stat(ctx, object.Ref{Key: "new"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was damaged is there: %v", err)
	}
	s.Fail(objecttest.Fault{Match: objecttest.Of("PUT"), Times: 1, Damage: true})
	fill(t, b, map[string]string{"new": "new"})
}

func TestAWrongClockIsTold(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	b := open(t, s.Bucket(t, "backups"), nil)
	fill(t, b, map[string]string{"there": "there"})
	past := time.Now().Add(-2 * time.Hour).UTC().Format("20060102T150405Z")
	s.Fail(objecttest.Fault{Headers: map[string]string{"X-Amz-Date": past}, Date: time.Now().Add(2 * time.Hour)})
	expectAll(t, b, nil, "the clock of this machine is off: 2h0m", "timedatectl")
}

func TestWrongKeysAreTold(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	place := s.Bucket(t, "backups")
	for text, pair := range map[string][2]string{"the secret is not that of the key": {objecttest.Key, "wrong"}, "does not know the key": {"nobody", "x"}} {
		b := open(t, place, func(o *object.S3Options) {
			impatient(o)
			o.Credentials.File = objecttest.Credentials(t, pair[0], pair[1])
		})
		expectAll(t, b, fs.ErrPermission, text, "--credentials")
	}
}

func TestAMissingBucketIsNoMissingObject(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	b := open(t, s.Place("missing"), nil)
	expectAll(t, b, nil, "the server has no bucket missing", "create it")
	for doing, err := range operations(b) {
		if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a missing object: %v", doing, err)
		}
	}
}

func TestWhatIsNotAllowedIsTold(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	owner := open(t, s.Bucket(t, "backups")+"/prefix", nil)
	fill(t, owner, map[string]string{"there": "there"})
	s.Allow(t, "backups", "s3:PutObject", "s3:ListBucket")
	b := open(t, s.Place("backups/prefix"), func(o *object.S3Options) {
		o.Credentials.File = objecttest.Credentials(t, objecttest.OtherKey, objecttest.OtherSecret)
	})
	for doing, err := range operations(b) {
		action := map[string]string{"reading": "s3:GetObject", "looking": "s3:GetObject", "deleting": "s3:DeleteObject"}[doing]
		switch {
		case action == "" && err != nil:
			t.Errorf("%s: %v", doing, err)
		case action != "" && (!errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), action) || !strings.Contains(hint.Of(err), "arn:aws:s3:::backups/prefix/*")):
			t.Errorf("%s: %v; hint: %s", doing, err, hint.Of(err))
		}
	}
	// Neither looking nor reading is allowed, and still no key is taken twice.
	if err := b.Put(ctx, "new", []byte("again"), object.PutOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	s.Fail(objecttest.Fault{Match: objecttest.Of("PUT"), Times: 1, Lose: true})
	if err := b.Put(ctx, "lost", []byte("lost"), object.PutOptions{}); err != nil {
		t.Error(err)
	}
}

func TestAFullServerIsTold(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	folder := btrfstest.New(t, 128<<20).Dir
	s := objecttest.Start(t, objecttest.Options{Folder: folder})
	b := open(t, s.Bucket(t, "backups"), nil)
	for i := range 20 {
		err := b.Put(ctx, fmt.Sprintf("%d", i), objecttest.Content(uint64(i), 16<<20), object.PutOptions{})
		if err == nil {
			continue
		}
		if !errors.Is(err, syscall.ENOSPC) || hint.Of(err) == "" {
			t.Errorf("%v; hint: %s", err, hint.Of(err))
		}
		return
	}
	t.Error("20 times 16 MiB went into 128 MiB")
}

func TestASlowServerIsNoBrokenOne(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	b := open(t, s.Bucket(t, "backups"), func(o *object.S3Options) { o.Patience, o.Silence = 5*time.Minute, time.Second })
	content := objecttest.Content(1, 4<<20)
	s.Fail(objecttest.Fault{Match: func(r *http.Request) bool { return r.Method == "PUT" || r.Method == "GET" }, Slow: 150 * time.Millisecond})
	began := time.Now()
	if err := b.Put(ctx, "much", content, object.PutOptions{Replace: true}); err != nil {
		t.Fatal(err)
	}
	got, err := object.Read(ctx, b, object.Ref{Key: "much"})
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it was not slow: %s", took)
	}
}
