package object_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
)

// secrets are in nothing that is shown.
const secrets = "root-secret"

func TestCredentialsAreFoundWhereverTheyAre(t *testing.T) {
	s := objecttest.Start(t, objecttest.Options{})
	place := s.Bucket(t, "backups")
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	file := func(content string) object.Credentials {
		path := filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return object.Credentials{File: path}
	}
	aws := "[other]\naws_access_key_id=x\naws_secret_access_key=y\n\n[default]\n# mine\naws_access_key_id = root-key\naws_secret_access_key = root-secret\nregion = x\n"
	try := func(name string, c object.Credentials, good bool) {
		t.Helper()
		var log bytes.Buffer
		b, err := object.OpenS3(context.Background(), place, object.S3Options{Credentials: c, Patience: time.Second,
			Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		if err == nil {
			err = b.List(context.Background(), "", func(object.Info) error { return nil })
		}
		if good != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && hint.Of(err) == "" {
			t.Errorf("%s: no hint: %v", name, err)
		}
		if text := log.String() + fmt.Sprint(err) + hint.Of(err); strings.Contains(text, secrets) {
			t.Errorf("%s: the secret is told: %s", name, text)
		}
	}
	try("nothing", object.Credentials{}, false)
	try("two lines", file("key = root-key\nsecret = root-secret\n"), true)
	try("no names", file("root-key\nroot-secret\n"), true)
	try("sections", file(aws), true)
	try("half", file("secret = root-secret\n"), false)
	try("empty", file(""), false)
	try("lines", object.Credentials{Command: `echo key=root-key; echo secret = root-secret; echo "about to root-se" >&2`}, true)
	try("JSON", object.Credentials{Command: `echo '{"Version":1,"AccessKeyId":"root-key","SecretAccessKey":"root-secret"}'`}, true)
	try("broken JSON", object.Credentials{Command: `echo '{"SecretAccessKey":"root-secret"'`}, false)
	try("wrong", file("key = root-key\nsecret = root-secret-not\n"), false)

	t.Setenv("AWS_PROFILE", "other")
	try("another profile", file(aws), false)
	t.Setenv("AWS_PROFILE", "none")
	try("a missing profile", file(aws), false)
	t.Setenv("AWS_ACCESS_KEY_ID", "root-key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "root-secret")
	try("environment", object.Credentials{}, true)
}

func TestASecretThatOthersCanReadIsRefused(t *testing.T) {
	t.Parallel()
	path := objecttest.Credentials(t, "key", "secret")
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := object.OpenS3(context.Background(), "s3://backups", object.S3Options{Credentials: object.Credentials{File: path}})
		if err == nil || hint.Of(err) != "if nobody read the secret: chmod 600 "+path {
			t.Errorf("%v: %v, %s", mode, err, hint.Of(err))
		}
	}
}

func TestAFailedCommandForCredentialsIsTold(t *testing.T) {
	t.Parallel()
	_, err := object.OpenS3(context.Background(), "s3://backups", object.S3Options{Credentials: object.Credentials{Command: "echo no wallet >&2; exit 3"}})
	if err == nil || !strings.Contains(err.Error(), "no wallet") {
		t.Error(err)
	}
	_, err = object.OpenS3(context.Background(), "s3://backups", object.S3Options{Credentials: object.Credentials{File: "/nowhere/at/all"}})
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/nowhere/at/all of credentials does not exist") {
		t.Errorf("%v, which must not tell that the store is missing", err)
	}
}

func TestACommandIsRunAgainWhenItsCredentialsExpire(t *testing.T) {
	t.Parallel()
	s := objecttest.Start(t, objecttest.Options{})
	place := s.Bucket(t, "backups")
	log := filepath.Join(t.TempDir(), "runs")
	print := func(expires time.Duration) string {
		return fmt.Sprintf(`echo run >>%s; echo '{"AccessKeyId":"root-key","SecretAccessKey":"root-secret","Expiration":"%s"}'`, log,
			time.Now().Add(expires).UTC().Format(time.RFC3339))
	}
	runs := func() int {
		content, _ := os.ReadFile(log)
		return strings.Count(string(content), "run\n")
	}
	for _, test := range []struct {
		expires time.Duration
		atLeast int
		atMost  int
	}{{time.Hour, 1, 1}, {time.Second, 3, 9}} { // what is about to expire is found anew for each request
		os.Remove(log)
		b := open(t, place, func(o *object.S3Options) { o.Credentials = object.Credentials{Command: print(test.expires)} })
		for range 2 {
			if _, err := b.Stat(context.Background(), object.Ref{Key: "x"}); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		}
		if n := runs(); n < test.atLeast || n > test.atMost {
			t.Errorf("expiring in %s, it ran %d times", test.expires, n)
		}
	}
}
