package objecttest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// Rclone runs the server of rclone, which honours no condition, keeps no versions, and locks nothing. It gives the place of a
// bucket.
func Rclone(t testing.TB, bucket string) string {
	t.Helper()
	folder := t.TempDir()
	check(t, os.Mkdir(filepath.Join(folder, bucket), 0o755))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	address := l.Addr().String()
	check(t, l.Close())
	cmd := exec.Command("rclone", "serve", "s3", "--addr", address, "--auth-key", Key+","+Secret, folder)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
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
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return "s3://" + address + "/" + bucket
		}
		if time.Now().After(end) {
			t.Fatal("rclone does not listen")
		}
	}
}
