package mirror

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/rsh"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// program is one run of rsync.
type program struct {
	log  *slog.Logger
	args []string
	link *rsh.Link
	// line is told each line of its output, and each state of its progress.
	line   func(line string)
	stdin  *os.File // may be nil
	source *Source
	dest   string        // in messages; "" where nothing is written
	stall  time.Duration // without progress, after which rsync is ended; 0 for none
}

// environment keeps rsync's own variables from changing what the arguments say (rsync(1), ENVIRONMENT VARIABLES), and rsync
// from asking for the password of a daemon: whoever would answer it may not be there.
func environment() []string {
	env := []string{"RSYNC_PARTIAL_DIR=", "RSYNC_OLD_ARGS=0", "HOME=/dev/null"} // ~/.popt may give options another meaning
	if _, ok := os.LookupEnv("RSYNC_PASSWORD"); !ok {
		env = append(env, "RSYNC_PASSWORD=")
	}
	return env
}

// runRsync runs rsync to its end and judges how that went. It gives what of the source it could not copy, or an error.
func runRsync(ctx context.Context, p program) (*IncompleteError, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	run, end := context.WithCancelCause(ctx)
	defer end(nil)
	said := complaints{root: escaped(p.source.root()), end: func() { end(nil) }}
	process, err := transport.Local{Log: p.log, Level: slog.LevelDebug}.Start(run, transport.Command{
		Argv: append([]string{"rsync"}, p.args...), Env: append(environment(), p.link.Env...), Name: "rsync",
		Stdin: p.stdin, Stdout: w, Said: said.add, Grace: 5 * time.Second,
	})
	w.Close()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, hint.New(err, "install rsync")
	}
	if err != nil {
		return nil, err
	}
	read := make(chan error, 1)
	go func() { read <- readLines(r, p.line) }()
	if p.stall > 0 {
		go watch(run, func() pulse { return pulseOf(process.Group()) }, p.stall, end)
	}
	ended := process.Wait()
	failpoint.Reach("rsync ended")
	if run.Err() != nil {
		r.Close() // a process that rsync left may hold the other end
	}
	readErr := <-read
	missing, err := said.judge(ended, p)
	if lost := p.link.Err(); err != nil && lost != nil && ctx.Err() == nil {
		return nil, lost // of which rsync only knows that its streams ended
	}
	if err == nil && readErr != nil {
		err = fmt.Errorf("reading the output of rsync: %w", readErr)
	}
	return missing, err
}

const maxLine = 64 << 10

// readLines reads lines that end with a line feed or, as rsync's progress does, with a carriage return. Too long ones are cut.
func readLines(r io.Reader, line func(string)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, maxLine), maxLine)
	lines.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if end := bytes.IndexAny(data, "\r\n"); end >= 0 {
			return end + 1, data[:end], nil
		}
		if len(data) > 0 && (atEOF || len(data) >= maxLine) {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	for lines.Scan() {
		line(lines.Text())
	}
	return lines.Err()
}
