package store

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
)

// documentedPolicy gives the policy of docs/offsite.md for a bucket of the test server, and a folder in it, with more that the user may do.
func documentedPolicy(t *testing.T, bucket, folder string, more string) string {
	t.Helper()
	content, err := os.ReadFile("../../docs/offsite.md")
	must(t, err)
	_, policy, _ := strings.Cut(string(content), "```json\n")
	policy, _, found := strings.Cut(policy, "```")
	if !found {
		t.Fatal("docs/offsite.md has no policy")
	}
	return strings.NewReplacer("BUCKET/", bucket+"/"+folder+"/", "BUCKET", bucket, `"Effect": "Allow",`,
		`"Effect": "Allow", "Principal": {"AWS": ["`+objecttest.OtherKey+`"]},`, `"s3:PutObject",`, `"s3:PutObject",`+more).Replace(policy)
}

func bucketOf(t *testing.T, place, key, secret string, mode object.LockMode) *object.S3 {
	t.Helper()
	b, err := object.OpenS3(t.Context(), place, object.S3Options{LockMode: mode, Patience: 5 * time.Second,
		Credentials: object.Credentials{File: objecttest.Credentials(t, key, secret)}})
	must(t, err)
	t.Cleanup(func() { b.Close() })
	return b
}

// read gives the streams of all backups, by name.
func (f *fixture) read(s *Store) map[string][]byte {
	f.Helper()
	c, err := s.Catalog(f.Context(), "host_home")
	must(f, err)
	all := make(map[string][]byte)
	for _, b := range c.Backups {
		if len(b.Faults) > 0 {
			f.Errorf("%s: %v", b.Name, b.Faults)
		}
		r := s.Stream(f.Context(), &b.Manifest, f.ids)
		if all[b.Name], err = io.ReadAll(r); err != nil {
			f.Errorf("%s: %v", b.Name, err)
		}
		must(f, r.Close())
	}
	return all
}

// saveLocked stores a stream as a run with --object-lock does.
func (f *fixture) saveLocked(name string, content []byte, until time.Time) {
	f.Helper()
	u, err := f.store.Begin(f.Context(), Order{Source: "host_home", Name: name, Key: name, Until: until})
	must(f, err)
	_, err = u.Write(content)
	must(f, err)
	_, err = u.Close()
	must(f, err)
	b, err := u.Commit(f.Context(), btrfs.UUID{9}, time.Now(), Private{})
	must(f, err)
	if !b.Locked.Equal(until) {
		f.Errorf("%s is locked until %s, not %s", name, b.Locked, until)
	}
}

func (f *fixture) expect(s *Store, want map[string][]byte) {
	f.Helper()
	got := f.read(s)
	if len(got) != len(want) {
		f.Errorf("%d backups in place of %d", len(got), len(want))
	}
	for name, content := range want {
		if !bytes.Equal(got[name], content) {
			f.Errorf("%s: %d bytes came back in place of %d", name, len(got[name]), len(content))
		}
	}
}

func TestAThiefWithTheKeyOfBackupsDestroysNone(t *testing.T) {
	server := objecttest.Start(t, objecttest.Options{Versions: true})
	place, root := server.LockingBucket(t, "backups")+"/of/home", server.Client(t)
	policy := documentedPolicy(t, "backups", "of/home", "")
	must(t, root.SetBucketPolicy(t.Context(), "backups", policy))
	f := newFixture(t)
	mine := bucketOf(t, place, objecttest.OtherKey, objecttest.OtherSecret, object.Governance)
	owner := bucketOf(t, place, objecttest.Key, objecttest.Secret, object.Governance)
	var err error
	f.store, err = Create(t.Context(), mine, f.options)
	must(t, err)
	until := time.Now().Add(30 * 24 * time.Hour).UTC().Truncate(time.Second)
	want := map[string][]byte{"20260101-000000": stream(btrfs.UUID{1}, btrfs.UUID{}, 400<<10, rand.Reader),
		"20260102-000000": stream(btrfs.UUID{2}, btrfs.UUID{1}, 200<<10, rand.Reader)}
	f.saveLocked("20260101-000000", want["20260101-000000"], until)
	f.saveLocked("20260102-000000", want["20260102-000000"], until)
	reader, err := Open(t.Context(), owner, f.options)
	must(t, err)
	f.expect(reader, want)

	// The thief may even hide objects.
	must(t, root.SetBucketPolicy(t.Context(), "backups", documentedPolicy(t, "backups", "of/home", `"s3:DeleteObject",`)))
	steal(f, server.Address(), mine)
	must(t, root.SetBucketPolicy(t.Context(), "backups", policy))

	reader, err = Open(t.Context(), owner, f.options)
	must(t, err)
	f.expect(reader, want)
	f.store, err = Open(t.Context(), mine, f.options) // the next run
	must(t, err)
	c := f.catalog()
	if len(c.Backups) != 2 {
		t.Fatalf("the next run sees %d backups", len(c.Backups))
	}
	want["20260103-000000"] = stream(btrfs.UUID{3}, btrfs.UUID{2}, 100<<10, rand.Reader)
	f.saveLocked("20260103-000000", want["20260103-000000"], until)
	f.expect(reader, want)
	last := &c.Backups[1]
	if _, err := f.store.Delete(t.Context(), "host_home", []*Backup{last}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the key of backups deletes: %v", err)
	}
	f.pruneAfter(reader, root, want)
}

// steal does what harm the key of backups can do.
func steal(f *fixture, address string, mine *object.S3) {
	f.Helper()
	ctx := f.Context()
	thief, err := minio.New(address, &minio.Options{Creds: credentials.NewStaticV4(objecttest.OtherKey, objecttest.OtherSecret, "")})
	must(f, err)
	put := func(key string, content []byte) {
		f.Helper()
		_, err := thief.PutObject(ctx, "backups", "of/home/"+key, bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{})
		must(f, err)
	}
	var objects []object.Info
	must(f, mine.List(ctx, "", func(i object.Info) error { objects = append(objects, i); return nil }))
	hidden, gone := 0, 0
	for _, o := range objects {
		junk := make([]byte, o.Size)
		_, _ = rand.Read(junk)
		put(o.Key, junk)
		if thief.RemoveObject(ctx, "backups", "of/home/"+o.Key, minio.RemoveObjectOptions{}) == nil {
			hidden++
		}
		if o.Version != "" && thief.RemoveObject(ctx, "backups", "of/home/"+o.Key, minio.RemoveObjectOptions{VersionID: o.Version}) == nil {
			gone++
		}
		if _, isPart := strings.CutPrefix(o.Key, backupsPrefix); isPart {
			put(strings.ReplaceAll(o.Key, "20260102", "20270101"), junk) // garbage
			put(o.Key+"9", junk)
		}
	}
	if hidden == 0 || gone > 0 {
		f.Errorf("of %d objects %d were hidden and %d destroyed", len(objects), hidden, gone)
	}
	forged := newFixture(f.T)
	forger := &Store{ID: f.store.ID, bucket: mine, Options: forged.options}
	f.forge(forger)
	put(indexPrefix+"host_home", bytes.Repeat([]byte{1}, 1<<20))
}

// forge stores a backup that another key signed.
func (f *fixture) forge(forger *Store) {
	f.Helper()
	u, err := forger.Begin(f.Context(), Order{Source: "host_home", Name: "20270102-000000", Key: "k"})
	must(f, err)
	_, err = u.Write(stream(btrfs.UUID{2}, btrfs.UUID{1}, 100<<10, rand.Reader))
	must(f, err)
	_, err = u.Close()
	must(f, err)
	_, err = u.Commit(f.Context(), btrfs.UUID{9}, time.Now(), Private{})
	must(f, err)
}

// endLockSoon lets an object be locked for a moment only. The server takes no time that has passed.
func endLockSoon(t testing.TB, root *minio.Client, o minio.ObjectInfo) (end time.Time) {
	t.Helper()
	for moment := time.Second; ; moment *= 2 {
		end, mode := time.Now().Add(moment), minio.Governance
		err := root.PutObjectRetention(t.Context(), "backups", o.Key, minio.PutObjectRetentionOptions{GovernanceBypass: true, Mode: &mode,
			RetainUntilDate: &end, VersionID: o.VersionID})
		if err == nil {
			return end
		}
		if moment > time.Minute {
			t.Fatal(err)
		}
	}
}

// pruneAfter deletes a backup with the other key: not before its lock ends, and then.
func (f *fixture) pruneAfter(owner *Store, root *minio.Client, want map[string][]byte) {
	f.Helper()
	ctx := f.Context()
	c, err := owner.Catalog(ctx, "host_home")
	must(f, err)
	last := &c.Backups[len(c.Backups)-1]
	if _, err := owner.Delete(ctx, "host_home", []*Backup{last}); !errors.Is(err, fs.ErrPermission) {
		f.Fatalf("what is locked is deleted: %v", err)
	}
	f.expect(owner, want)
	var end time.Time
	for o := range root.ListObjectsIter(ctx, "backups", minio.ListObjectsOptions{Prefix: "of/home/" + last.Dir, Recursive: true, WithVersions: true}) {
		must(f, o.Err)
		end = endLockSoon(f, root, o)
	}
	time.Sleep(time.Until(end.Add(time.Second)))
	deleted, err := owner.Delete(ctx, "host_home", []*Backup{last})
	must(f, err)
	if delete(want, last.Name); len(deleted) != 1 {
		f.Errorf("%d deleted", len(deleted))
	}
	f.expect(owner, want)
}
