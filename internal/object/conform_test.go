package object_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
)

// open opens a bucket as the user who may do everything, with little patience.
func open(t testing.TB, place string, change func(*object.S3Options)) *object.S3 {
	t.Helper()
	o := object.S3Options{Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Credentials: object.Credentials{File: objecttest.Credentials(t, objecttest.Key, objecttest.Secret)},
		Patience:    20 * time.Second, Silence: 5 * time.Minute}
	if change != nil {
		change(&o)
	}
	b, err := object.OpenS3(context.Background(), place, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestAFolderIsABucket(t *testing.T) {
	t.Parallel()
	f, err := object.OpenFolder(t.TempDir(), "the folder")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	objecttest.Conform(t, f, objecttest.Traits{})
}

func TestAnS3ServerIsABucket(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	objecttest.Conform(t, open(t, s.Bucket(t, "plain")+"/some/prefix", nil), objecttest.Traits{})
}

func TestAnS3ServerWithVersionsIsABucket(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{Versions: true})
	objecttest.Conform(t, open(t, s.VersionedBucket(t, "versioned"), nil), objecttest.Traits{Versions: true})
}
