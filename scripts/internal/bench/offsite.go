package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// An offsite is what encrypted backups go to: a server, and a folder.
type offsite struct {
	dir     string
	address string // of the server
	end     func() // of it
}

const (
	serverKey, serverSecret = "bench", "bench-secret"
	bucketName              = "backups"
	serverVariable          = "BTRFS_BACKUP_OBJECT_SERVER" // the path of the server's program
)

// newOffsite starts the server, and makes a key.
func newOffsite(dir string) (*offsite, error) {
	o := &offsite{dir: filepath.Join(dir, "offsite")}
	for _, folder := range []string{o.buckets(), o.folder()} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	if err := run("sh", "-euc", `age-keygen -o "$1/key"; age-keygen -y "$1/key" >"$1/recipients"; chmod 644 "$1/recipients"`, "sh", o.dir); err != nil {
		return nil, err
	}
	credentials := fmt.Appendf(nil, "key = %s\nsecret = %s\n", serverKey, serverSecret)
	if err := os.WriteFile(filepath.Join(o.dir, "credentials"), credentials, 0o600); err != nil {
		return nil, err
	}
	for name, value := range map[string]string{"TYPE": "s3", "PROVIDER": "Other", "ACCESS_KEY_ID": serverKey, "SECRET_ACCESS_KEY": serverSecret} {
		if err := os.Setenv("RCLONE_CONFIG_SERVER_"+name, value); err != nil {
			return nil, err
		}
	}
	err := errors.Join(os.Setenv("RCLONE_CONFIG", os.DevNull), os.Unsetenv("AWS_CA_BUNDLE"), o.serve())
	if err == nil {
		err = run("rclone", "mkdir", "server:"+bucketName)
	}
	return o, err
}

func (o *offsite) buckets() string { return filepath.Join(o.dir, "buckets") }
func (o *offsite) folder() string  { return filepath.Join(o.dir, "folder") }

// serve starts the server.
func (o *offsite) serve() error {
	program := os.Getenv(serverVariable)
	if program == "" {
		return errors.New(serverVariable + " is not set: scripts/bench --offsite sets it")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	o.address = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	cmd := exec.Command(program, "-socket", o.address, "-folder", o.buckets(), "-user", serverKey+":"+serverSecret)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	o.end = func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		answer, err := http.Get("http://" + o.address + "/")
		if err == nil {
			return errors.Join(answer.Body.Close(), os.Setenv("RCLONE_CONFIG_SERVER_ENDPOINT", "http://"+o.address))
		}
		if time.Now().After(end) {
			o.end()
			return fmt.Errorf("the server does not answer: %w", err)
		}
	}
}

// empty removes all that was stored.
func (o *offsite) empty() error {
	return run("find", filepath.Join(o.buckets(), bucketName), o.folder(), "-mindepth", "1", "-delete")
}

// size gives the bytes of all that was stored.
func (o *offsite) size() (sum int64, err error) {
	err = filepath.WalkDir(o.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		sum += info.Size()
		return err
	})
	return sum, err
}

// encrypted is what one would type; the last words are what takes the stream.
const encrypted = `
set -euo pipefail
source=$1 recipients=$2 to=$3; shift 3
btrfs subvolume snapshot -r "$source" "$source/snapshot/by-hand"
sync -f "$source/snapshot"
btrfs send "$source/snapshot/by-hand" | zstd | age -R "$recipients" | eval "$to"`

// ways gives the contestants: by hand and the program, to the server and to the folder.
func (o *offsite) ways(program string) (toServer, toFolder []contestant) {
	recipients := filepath.Join(o.dir, "recipients")
	hand := func(name, to string) contestant {
		return contestant{name: name, command: func(b backup) ([]string, error) {
			return []string{"bash", "-c", encrypted, "by-hand", b.source, recipients, to}, nil
		}}
	}
	own := func(place string) contestant {
		return contestant{name: "btrfs-backup -q", ours: true, command: func(b backup) ([]string, error) {
			return []string{program, "-q", "--recipients", recipients, "--one-recipient", "--credentials", filepath.Join(o.dir, "credentials"),
				b.source, place}, nil
		}}
	}
	file := filepath.Join(o.folder(), "backup.zst.age")
	return []contestant{
			hand("zstd, age, rclone rcat", "rclone rcat server:"+bucketName+"/backup.zst.age"),
			own("s3://" + o.address + "/" + bucketName),
		}, []contestant{
			hand("zstd, age, cat", "cat >"+file+" && sync "+file),
			own("store:" + o.folder()),
		}
}

// offsiteCases gives kinds of data by name.
func offsiteCases(scale int) []testCase {
	size := 512 * mib / scale
	return []testCase{
		{name: fmt.Sprintf("%d MB of text", size/mib), often: 1, grow: textFiles(size / 4)},
		{name: fmt.Sprintf("%d MB, half of it text", size/mib), often: 1, grow: func(dir string) error {
			// all of one behind all of the other, and files of both by turns
			if err := textFiles(size / 8)(filepath.Join(dir, "text")); err != nil {
				return err
			}
			return files(filepath.Join(dir, "random"), size/8/(128*kib)*4, func(int) int { return 128 * kib })
		}},
		{name: fmt.Sprintf("%d MB that do not shrink", size/mib), often: 1, grow: randomFiles(size / 4)},
	}
}

func benchOffsite(s settings) error {
	o, err := newOffsite(s.dir)
	if err != nil {
		return err
	}
	defer o.end()
	toServer, toFolder := o.ways(s.program)
	kinds := offsiteCases(s.scale)
	for i, all := range [][]contestant{toServer, toFolder} {
		for _, c := range kinds {
			if c.name += []string{", server", ", folder"}[i]; !s.only.MatchString(c.name) {
				continue
			}
			if err := benchOffsiteCase(s, o, c, all); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

func benchOffsiteCase(s settings, o *offsite, c testCase, all []contestant) error {
	l := newLab(s.dir)
	defer l.close()
	source, err := l.newSource()
	if err != nil {
		return err
	}
	progress("%s: preparing", c.name)
	if err := c.grow(source); err != nil {
		return err
	}
	results, stored := make(map[string][]usage), make(map[string]int64)
	for round := range s.rounds {
		for _, i := range rand.Perm(len(all)) {
			u, size, err := l.store(o, all[i], source)
			if err != nil {
				return fmt.Errorf("%s: %w", all[i].name, err)
			}
			progress("%s: round %d of %d: %s: %.2f s", c.name, round+1, s.rounds, all[i].name, u.wall.Seconds())
			results[all[i].name], stored[all[i].name] = append(results[all[i].name], u), size
		}
	}
	printComparison(os.Stdout, c, all, results)
	var sizes []string
	for _, who := range all {
		speed := float64(c.bytes(source)) / mib / middle(results[who.name]).wall.Seconds()
		sizes = append(sizes, fmt.Sprintf("%s: %d MiB stored, %.0f MiB/s", who.name, stored[who.name]/mib, speed))
	}
	fmt.Println("\n" + strings.Join(sizes, "; "))
	return nil
}

// bytes gives how many there are in the source.
func (testCase) bytes(source string) (sum int64) {
	_ = filepath.WalkDir(source, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}

// store measures one contestant once.
func (l *lab) store(o *offsite, who contestant, source string) (u usage, size int64, err error) {
	if err := o.empty(); err != nil {
		return u, 0, err
	}
	argv, err := who.command(backup{source: source, directory: l.dir})
	if err == nil {
		err = l.sync()
	}
	if err != nil {
		return u, 0, err
	}
	if u, err = l.measure(argv); err != nil {
		return u, 0, err
	}
	if size, err = o.size(); err != nil {
		return u, 0, err
	}
	return u, size, deleteSnapshots(source, "")
}
