// Package objecttest runs a real S3-compatible server for a test, behind a proxy that fails as it is told to, and holds what all
// buckets have in common against one of them.
package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// patience is how long the server may take to be built, or to listen.
const patience = 30 * time.Minute

// The user who may do everything, and one who may do what policies allow.
const (
	Key, Secret           = "root-key", "root-secret"
	OtherKey, OtherSecret = "other-key", "other-secret"
)

// Options are what a Server differs in.
type Options struct {
	Folder   string // in which the buckets are; "": a fresh one
	Versions bool   // it can keep versions, and lock objects
	Region   string // "": us-east-1
	Weak     bool   // it is another one, which honours no conditions, and knows nothing of versions, checksums and policies
}

// A Server is a running VersityGW behind a Proxy.
type Server struct {
	*Proxy
	Folder string // of the buckets
	URL    string // of the proxy

	o      Options
	dir    string
	cmd    *exec.Cmd
	ended  chan struct{} // the end of cmd
	output bytes.Buffer  // of cmd, once that ended
}

// Program gives the path of the server's program, and waits until it is built. Without it, the test is skipped, or it fails if
// BTRFS_BACKUP_REQUIRE_ROOT=1.
func Program(t testing.TB) string {
	t.Helper()
	path := os.Getenv("BTRFS_BACKUP_OBJECT_SERVER")
	if path == "" {
		if os.Getenv("BTRFS_BACKUP_REQUIRE_ROOT") == "1" {
			t.Fatal("needs the server for tests, and BTRFS_BACKUP_REQUIRE_ROOT=1 forbids to skip: scripts/object-server builds it")
		}
		t.Skip("needs the server for tests: export BTRFS_BACKUP_OBJECT_SERVER=$(scripts/object-server)")
	}
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		if log, err := os.ReadFile(path + ".failed"); err == nil {
			t.Fatalf("the server for tests could not be built:\n%s", log)
		}
		if time.Now().After(end) {
			t.Fatalf("the server for tests is not built: %s is missing", path)
		}
	}
}

// Start starts a server that ends with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "objects-") // paths of sockets are short
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &Server{o: o, dir: dir, Folder: o.Folder}
	if s.Folder == "" {
		s.Folder = filepath.Join(dir, "buckets")
	}
	for _, folder := range []string{s.Folder, s.versions()} {
		check(t, os.MkdirAll(folder, 0o755))
	}
	s.Proxy = newProxy(s.socket())
	front := httptest.NewUnstartedServer(s.Proxy)
	check(t, front.Listener.Close())
	front.Listener = listen(t)
	front.Start()
	s.URL = front.URL
	s.Run(t)
	t.Cleanup(func() {
		s.Heal()
		front.CloseClientConnections()
		front.Close()
		s.Stop()
		if t.Failed() {
			t.Logf("the server said:\n%s", &s.output)
		}
	})
	return s
}

// listen gives a listener whose connections take little before it is read: else slowness would be noticed late.
func listen(t testing.TB) net.Listener {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			const little = 128 << 10
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, little)
		})
		return errors.Join(err, failed)
	}}
	l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	check(t, err)
	return l
}

func (s *Server) socket() string   { return filepath.Join(s.dir, "socket") }
func (s *Server) versions() string { return filepath.Join(s.dir, "versions") }

// Run starts the server again after a Stop.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	argv := []string{"-socket", s.socket(), "-folder", s.Folder, "-user", Key + ":" + Secret, "-user", OtherKey + ":" + OtherSecret}
	if s.o.Weak {
		argv = append(argv, "-weak")
	}
	if s.o.Versions {
		argv = append(argv, "-versions", s.versions())
	}
	if s.o.Region != "" {
		argv = append(argv, "-region", s.o.Region)
	}
	cmd, ended := exec.Command(Program(t), argv...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = &s.output, &s.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		defer close(ended)
		runtime.LockOSThread() // the death signal comes when the thread ends
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed
		}
	}()
	check(t, <-started)
	s.cmd, s.ended = cmd, ended
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("unix", s.socket()); err == nil {
			c.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("the server does not start:\n%s", &s.output)
		default:
		}
		if time.Now().After(end) {
			t.Fatal("the server does not listen")
		}
	}
}

// Stop ends the server. The proxy goes on, and closes connections.
func (s *Server) Stop() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.ended
	_ = os.Remove(s.socket())
}

// Client gives a client of the user who may do everything.
func (s *Server) Client(t testing.TB) *minio.Client {
	t.Helper()
	c, err := minio.New(s.Address(), &minio.Options{Creds: credentials.NewStaticV4(Key, Secret, ""), Region: s.o.Region})
	check(t, err)
	return c
}

// Address is that of the proxy, as HOST:PORT.
func (s *Server) Address() string { return s.URL[len("http://"):] }

// Bucket makes a bucket, and gives its place.
func (s *Server) Bucket(t testing.TB, name string) string {
	t.Helper()
	check(t, s.Client(t).MakeBucket(context.Background(), name, minio.MakeBucketOptions{Region: s.o.Region}))
	return s.Place(name)
}

// Place names a bucket, or what is in it.
func (s *Server) Place(path string) string { return "s3://" + s.Address() + "/" + path }

// VersionedBucket makes one that keeps versions.
func (s *Server) VersionedBucket(t testing.TB, name string) string {
	t.Helper()
	place := s.Bucket(t, name)
	check(t, s.Client(t).EnableVersioning(context.Background(), name))
	return place
}

// LockingBucket makes one that keeps versions, and whose objects can be locked.
func (s *Server) LockingBucket(t testing.TB, name string) string {
	t.Helper()
	check(t, s.Client(t).MakeBucket(context.Background(), name, minio.MakeBucketOptions{Region: s.o.Region, ObjectLocking: true}))
	return s.Place(name)
}

// Allow lets the other user do some actions with a bucket, such as "s3:PutObject", and nothing else.
func (s *Server) Allow(t testing.TB, bucket string, actions ...string) {
	t.Helper()
	policy := `{"Version":"2012-10-17","Statement":[`
	for i, action := range actions {
		if i > 0 {
			policy += ","
		}
		policy += fmt.Sprintf(`{"Effect":"Allow","Principal":{"AWS":[%q]},"Action":[%q],"Resource":["arn:aws:s3:::%s","arn:aws:s3:::%s/*"]}`,
			OtherKey, action, bucket, bucket)
	}
	check(t, s.Client(t).SetBucketPolicy(context.Background(), bucket, policy+"]}"))
}

// Credentials writes a file of credentials.
func Credentials(t testing.TB, key, secret string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "credentials")
	check(t, os.WriteFile(path, []byte("key = "+key+"\nsecret = "+secret+"\n"), 0o600))
	return path
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
