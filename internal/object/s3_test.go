package object_test

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"encoding/pem"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/time/rate"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

func TestOpeningMakesNoRequest(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	open(t, s.Place("backups"), nil)
	if counts := s.Counts(); len(counts) > 0 {
		t.Errorf("%v", counts)
	}
}

func TestRequestsAreFewAndCounted(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{Versions: true})
	place := s.VersionedBucket(t, "backups")
	var counted object.Requests
	b := open(t, place, func(o *object.S3Options) { o.Requests = &counted })
	s.Counts()
	fill(t, b, map[string]string{"first": "first"})
	if counts := s.Counts(); counts["HEAD"] != 1 || counts["PUT"] != 2 || len(counts) != 2 {
		t.Errorf("the first one: %v", counts) // whether the server honours the condition is found out
	}
	for _, key := range []string{"second", "third"} {
		fill(t, b, map[string]string{key: key})
		if counts := s.Counts(); counts["PUT"] != 1 || len(counts) != 1 {
			t.Errorf("%s: %v", key, counts)
		}
	}
	if _, err := object.Read(ctx, b, object.Ref{Key: "first"}); err != nil {
		t.Error(err)
	}
	if counts := s.Counts(); counts["GET"] != 1 || len(counts) != 1 {
		t.Errorf("reading: %v", counts)
	}
	for range 2 { // the first time it is found out that there are versions
		s.Counts()
		for _, prefix := range []string{"f", "nothing"} {
			if err := b.List(ctx, prefix, func(object.Info) error { return nil }); err != nil {
				t.Error(err)
			}
		}
		if counts := s.Counts(); counts["LIST"] != 2 || len(counts) != 1 {
			t.Errorf("listing: %v", counts)
		}
	}
	if err := b.Delete(ctx, []string{"first", "second", "third"}); err != nil {
		t.Error(err)
	}
	if counts := s.Counts(); counts["LIST"] != 1 || counts["DELETE"] != 1 || len(counts) != 2 {
		t.Errorf("deleting: %v", counts)
	}
	got := counted.Counts()
	for kind, want := range map[string]int64{"list": 5, "get": 1, "put": 4, "head": 1, "delete": 1, "other": 0} {
		if got[kind] != want {
			t.Errorf("counted %v", got)
		}
	}
}

func TestTheRegionIsFoundOut(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{Region: "eu-test-1"})
	place := s.Bucket(t, "backups")
	for _, first := range []string{"list", "put", "stat"} {
		b := open(t, place, nil)
		switch first {
		case "list":
			if err := b.List(ctx, "", func(object.Info) error { return nil }); err != nil {
				t.Error(err)
			}
		case "stat":
			if _, err := b.Stat(ctx, object.Ref{Key: "missing"}); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		}
		for doing, err := range operations(b) {
			if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s, after %s: %v", doing, first, err)
			}
		}
	}
}

func TestAServerThatRefusesTheConditionIsAskedBefore(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	b := open(t, s.Bucket(t, "backups"), nil)
	s.Fail(objecttest.Fault{Match: func(r *http.Request) bool { return r.Header.Get("If-None-Match") != "" }, Status: 501, Code: "NotImplemented"})
	for _, key := range []string{"first", "second"} {
		fill(t, b, map[string]string{key: key})
		if err := b.Put(ctx, key, []byte("again"), object.PutOptions{}); !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
		if got, err := object.Read(ctx, b, object.Ref{Key: key}); err != nil || string(got) != key {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestWhatIsLockedCannotBeDeletedByAThief(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{Versions: true})
	place := s.LockingBucket(t, "backups")
	until := time.Now().Add(time.Hour).Round(time.Second)
	b := open(t, place, func(o *object.S3Options) { o.LockMode = object.Governance })
	if err := b.Put(ctx, "folder/locked", []byte("precious"), object.PutOptions{Until: until}); err != nil {
		t.Fatal(err)
	}
	fill(t, b, map[string]string{"folder/free": "free"})
	if info, err := b.Stat(ctx, object.Ref{Key: "folder/locked"}); err != nil || !info.Locked.Equal(until) {
		t.Errorf("locked until %s, not %s: %v", info.Locked, until, err)
	}

	s.Allow(t, "backups", "s3:PutObject", "s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:ListBucketVersions", "s3:DeleteObject", "s3:DeleteObjectVersion")
	thief := open(t, place, func(o *object.S3Options) {
		o.Credentials.File = objecttest.Credentials(t, objecttest.OtherKey, objecttest.OtherSecret)
	})
	if err := thief.Put(ctx, "folder/locked", []byte("worthless"), object.PutOptions{Replace: true}); err != nil {
		t.Errorf("the thief cannot even add a version: %v", err)
	}
	raw, err := minio.New(s.Address(), &minio.Options{Creds: credentials.NewStaticV4(objecttest.OtherKey, objecttest.OtherSecret, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.RemoveObject(ctx, "backups", "folder/locked", minio.RemoveObjectOptions{}); err != nil { // adds a marker
		t.Errorf("the thief cannot even add a marker: %v", err)
	}
	// The newest versions go first, and the locked one stays.
	if err := thief.Delete(ctx, []string{"folder/free", "folder/locked"}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the thief: %v", err)
	}
	var found []object.Info
	err = b.List(ctx, "", func(info object.Info) error { found = append(found, info); return nil })
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	if got, err := object.Read(ctx, b, found[0].Ref); err != nil || string(got) != "precious" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNothingIsLeftOfWhatWasDeleted(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{Versions: true})
	b := open(t, s.VersionedBucket(t, "backups"), nil)
	client := s.Client(t)
	fill(t, b, map[string]string{"folder/marked": "x", "folder/twice": "x", "other/kept": "x"})
	if err := b.Put(ctx, "folder/twice", []byte("y"), object.PutOptions{Replace: true}); err != nil {
		t.Fatal(err)
	}
	if err := client.RemoveObject(ctx, "backups", "folder/marked", minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(ctx, []string{"folder/marked", "folder/twice"}); err != nil {
		t.Error(err)
	}
	left := 0
	for o := range client.ListObjects(ctx, "backups", minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if left++; o.Err != nil || o.Key != "other/kept" {
			t.Errorf("left is %s, marker: %t, %v", o.Key, o.IsDeleteMarker, o.Err)
		}
	}
	if left != 1 {
		t.Errorf("%d versions are left", left)
	}
}

func TestABucketWithoutLocksIsTold(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{Versions: true})
	b := open(t, s.Bucket(t, "backups"), func(o *object.S3Options) { o.LockMode = object.Compliance })
	err := b.Put(ctx, "x", []byte("x"), object.PutOptions{Until: time.Now().Add(time.Hour)})
	if err == nil || !strings.Contains(err.Error(), "no object lock") || !strings.Contains(hint.Of(err), "--object-lock") {
		t.Errorf("%v; hint: %s", err, hint.Of(err))
	}
	fill(t, b, map[string]string{"y": "not to be locked"})
}

func TestUploadsOfOtherProgramsAreLeftAlone(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{Versions: true})
	b := open(t, s.VersionedBucket(t, "backups"), nil)
	core := minio.Core{Client: s.Client(t)}
	upload, err := core.NewMultipartUpload(ctx, "backups", "folder/theirs", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	part := strings.Repeat("x", 5<<20)
	if _, err := core.PutObjectPart(ctx, "backups", "folder/theirs", upload, 1, strings.NewReader(part), int64(len(part)), minio.PutObjectPartOptions{}); err != nil {
		t.Fatal(err)
	}
	fill(t, b, map[string]string{"folder/ours": "ours"})
	var keys []string
	if err := b.List(ctx, "", func(info object.Info) error { keys = append(keys, info.Key); return nil }); err != nil || len(keys) != 1 {
		t.Errorf("%q, %v", keys, err)
	}
	if err := b.Delete(ctx, []string{"folder/ours", "folder/theirs"}); err != nil {
		t.Error(err)
	}
	parts, err := core.ListObjectParts(ctx, "backups", "folder/theirs", upload, 0, 10)
	if err != nil || len(parts.ObjectParts) != 1 {
		t.Errorf("their upload: %v, %v", parts, err)
	}
}

func TestArchivedObjectsAreCalledBack(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	b := open(t, s.Bucket(t, "backups"), nil)
	fill(t, b, map[string]string{"cold": "cold"})
	asked := 0
	s.Fail(objecttest.Fault{Match: objecttest.Of("GET"), Status: 403, Code: "InvalidObjectState"})
	s.Fail(objecttest.Fault{Match: func(r *http.Request) bool {
		restore := r.Method == http.MethodPost && r.URL.Query().Has("restore")
		if restore {
			asked++
		}
		return restore
	}, Status: 202})
	_, err := object.Read(ctx, b, object.Ref{Key: "cold"})
	var archived *object.ArchivedError
	if !errors.As(err, &archived) || archived.Key != "cold" || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	s.Heal()
	s.Fail(objecttest.Fault{Match: objecttest.Of("GET"), Status: 403, Code: "InvalidObjectState"})
	s.Fail(objecttest.Fault{Match: objecttest.Of("OTHER"), Status: 409, Code: "RestoreAlreadyInProgress"})
	if _, err := object.Read(ctx, b, object.Ref{Key: "cold"}); !errors.As(err, &archived) {
		t.Errorf("called back before: %v", err)
	}
}

func TestUploadsKeepToTheLimit(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	moved := make(chan int64, 1<<16)
	place := s.Bucket(t, "backups")
	b := open(t, place, func(o *object.S3Options) {
		o.Limit = transport.NewLimiter(1 << 20)
		o.Wire = func(n int64) { moved <- n }
	})
	slow := open(t, place, func(o *object.S3Options) { // which would take five minutes
		o.Limit = rate.NewLimiter(7<<10, 7<<10)
		o.Wire = func(n int64) { moved <- n }
	})
	content := objecttest.Content(1, 2<<20)
	began := time.Now()
	if err := b.Put(ctx, "much", content, object.PutOptions{Replace: true}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 1800*time.Millisecond || took > 2*time.Minute {
		t.Errorf("2 MiB at 1 MiB/s took %s", took)
	}
	began = time.Now()
	if _, err := object.Read(ctx, slow, object.Ref{Key: "much"}); err != nil || time.Since(began) > 2*time.Minute {
		t.Errorf("reading took %s, %v", time.Since(began), err)
	}
	b.Close()
	slow.Close()
	close(moved)
	var sum int64
	for n := range moved {
		sum += n
	}
	if sum < 4<<20 || sum > 4<<20+64<<10 {
		t.Errorf("%d bytes moved", sum)
	}
}

// TestNamesAndCertificates needs another endpoint than one of this machine, for which there is neither.
func TestNamesAndCertificates(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	s.Bucket(t, "backups")
	secure := httptest.NewTLSServer(s.Proxy)
	defer secure.Close()
	at := func(address string) func(o *object.S3Options) {
		return func(o *object.S3Options) {
			impatient(o)
			*o = o.DialedAs(address)
		}
	}
	b := open(t, "s3://example.com:9000/backups", at(secure.Listener.Addr().String()))
	expectAll(t, b, nil, "the certificate of example.com:9000 is not trusted", "SSL_CERT_FILE")
	b = open(t, "s3://example.com:9000/backups", at(s.Address()))
	expectAll(t, b, nil, "example.com:9000 speaks no TLS", "ssh -N -L")
	b = open(t, "s3://example.org/backups", func(o *object.S3Options) {
		*o = o.DialedBy(func() (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "example.org", IsNotFound: true}
		})
	})
	expectAll(t, b, transport.ErrUnreachable, "no machine of the name example.org is known", "online")

	// A file of certificates is read once in a process, so this test is run in another one.
	file := filepath.Join(t.TempDir(), "own.pem")
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(file, own, 0o600); err != nil {
		t.Fatal(err)
	}
	again := exec.Command(os.Args[0], "-test.run=^TestAnAuthorityOfOnesOwn$", "-test.v")
	again.Env = append(os.Environ(), "SSL_CERT_FILE="+file, "OBJECT_TEST_ADDRESS="+secure.Listener.Addr().String())
	if said, err := again.CombinedOutput(); err != nil || !strings.Contains(string(said), "--- PASS") {
		t.Errorf("%v: %s", err, said)
	}
}

func TestAnAuthorityOfOnesOwn(t *testing.T) {
	address := os.Getenv("OBJECT_TEST_ADDRESS")
	if address == "" {
		return // run by TestNamesAndCertificates
	}
	b := open(t, "s3://example.com:9000/backups", func(o *object.S3Options) { *o = o.DialedAs(address) })
	for doing, err := range operations(b) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", doing, err)
		}
	}
}

func TestAWeakServerIsABucket(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{Weak: true})
	objecttest.Conform(t, open(t, s.Bucket(t, "backups")+"/prefix", nil), objecttest.Traits{NoSums: true, NoRaces: true})
}

func TestABucketThatLocksIsABucket(t *testing.T) {
	t.Parallel()
	btrfstest.OnlyInAll(t)
	s := objecttest.Start(t, objecttest.Options{Versions: true})
	b := open(t, s.LockingBucket(t, "locking")+"/prefix", func(o *object.S3Options) { o.LockMode = object.Governance })
	objecttest.Conform(t, b, objecttest.Traits{Versions: true})
}
